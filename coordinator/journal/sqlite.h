#ifndef CONCORDAT_COORDINATOR_JOURNAL_SQLITE_H_
#define CONCORDAT_COORDINATOR_JOURNAL_SQLITE_H_

#include <sqlite3.h>

#include <memory>
#include <string>

#include "common/bytes.h"

// SQLite's C interface as objects with statuses. Only journal/ includes this.
namespace concordat::coordinator {

struct SqliteDeleter {
  void operator()(sqlite3* db) const { sqlite3_close_v2(db); }
  void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
};
using SqliteHandle = std::unique_ptr<sqlite3, SqliteDeleter>;

/// What went wrong, as one of our codes: a full disk is ResourceExhausted, a damaged file DataLoss, a
/// constraint AlreadyExists, a lock FailedPrecondition.
Status SqliteStatus(sqlite3* db, std::string_view what);

/// A prepared statement, used again and again. Bind from 1, read columns from 0.
class Statement {
 public:
  Statement() = default;
  static StatusOr<Statement> Prepare(sqlite3* db, const char* sql);

  Statement& Bind(int index, int64_t value);
  Statement& Bind(int index, double value);
  Statement& Bind(int index, std::string_view text);
  Statement& Bind(int index, const Digest& digest);
  Statement& BindBlob(int index, ByteView bytes);

  /// Runs a statement without rows and makes it ready for the next use.
  Status Run();
  /// True while there is a row. After false or an error the statement is ready for the next use.
  StatusOr<bool> Step();
  void Reset();

  int64_t Integer(int column) const { return sqlite3_column_int64(statement_.get(), column); }
  double Real(int column) const;
  std::string Text(int column) const;
  Bytes Blob(int column) const;
  /// DataLoss unless the column holds 32 bytes.
  StatusOr<Digest> Hash(int column) const;

 private:
  std::unique_ptr<sqlite3_stmt, SqliteDeleter> statement_;
  int bind_error_ = SQLITE_OK;
};

Status Execute(sqlite3* db, const char* sql);

}  // namespace concordat::coordinator

#endif  // CONCORDAT_COORDINATOR_JOURNAL_SQLITE_H_
