#include "coordinator/journal/sqlite.h"

#include <limits>

namespace concordat::coordinator {

Status SqliteStatus(sqlite3* db, std::string_view what) {
  const int code = sqlite3_extended_errcode(db);
  const char* text = sqlite3_errmsg(db);
  switch (code & 0xff) {
    case SQLITE_FULL:
      return ResourceExhausted("{}: the disk is full ({})", what, text);
    case SQLITE_IOERR:
      // A file size limit or quota shows as a failed write, not as SQLITE_FULL.
      if (code == SQLITE_IOERR_WRITE || code == SQLITE_IOERR_FSYNC || code == SQLITE_IOERR_SHMSIZE) {
        return ResourceExhausted("{}: the disk takes no more ({})", what, text);
      }
      return DataLoss("{}: {} ({})", what, text, code);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return DataLoss("{}: {}", what, text);
    case SQLITE_CONSTRAINT:
      return AlreadyExists("{}: {}", what, text);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return FailedPrecondition("{}: another process has it open ({})", what, text);
    case SQLITE_CANTOPEN:
      return NotFound("{}: {}", what, text);
    case SQLITE_READONLY:
    case SQLITE_PERM:
      return PermissionDenied("{}: {}", what, text);
    default:
      return Internal("{}: {} ({})", what, text, code);
  }
}

StatusOr<Statement> Statement::Prepare(sqlite3* db, const char* sql) {
  sqlite3_stmt* raw = nullptr;
  if (sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, &raw, nullptr) != SQLITE_OK) {
    return SqliteStatus(db, "journal: prepare");
  }
  Statement statement;
  statement.statement_.reset(raw);
  return statement;
}

Statement& Statement::Bind(int index, int64_t value) {
  if (const int r = sqlite3_bind_int64(statement_.get(), index, value); r != SQLITE_OK) bind_error_ = r;
  return *this;
}
Statement& Statement::Bind(int index, double value) {
  // SQLite stores NaN as NULL; Real() reads it back as NaN.
  if (const int r = sqlite3_bind_double(statement_.get(), index, value); r != SQLITE_OK) bind_error_ = r;
  return *this;
}
Statement& Statement::Bind(int index, std::string_view text) {
  if (const int r = sqlite3_bind_text64(statement_.get(), index, text.data() ? text.data() : "", text.size(),
                                        SQLITE_TRANSIENT, SQLITE_UTF8);
      r != SQLITE_OK) {
    bind_error_ = r;
  }
  return *this;
}
Statement& Statement::Bind(int index, const Digest& digest) { return BindBlob(index, digest.view()); }
Statement& Statement::BindBlob(int index, ByteView bytes) {
  const int r = bytes.empty() ? sqlite3_bind_zeroblob(statement_.get(), index, 0)
                              : sqlite3_bind_blob64(statement_.get(), index, bytes.data(), bytes.size(),
                                                    SQLITE_TRANSIENT);
  if (r != SQLITE_OK) bind_error_ = r;
  return *this;
}

void Statement::Reset() {
  sqlite3_reset(statement_.get());
  sqlite3_clear_bindings(statement_.get());
  bind_error_ = SQLITE_OK;
}

StatusOr<bool> Statement::Step() {
  if (bind_error_ != SQLITE_OK) {
    const int error = bind_error_;
    Reset();
    return Internal("journal: a value could not be bound ({})", error);
  }
  const int result = sqlite3_step(statement_.get());
  if (result == SQLITE_ROW) return true;
  Status status = OkStatus();
  if (result != SQLITE_DONE) status = SqliteStatus(sqlite3_db_handle(statement_.get()), "journal");
  Reset();
  if (!status.ok()) return status;
  return false;
}

Status Statement::Run() {
  ASSIGN_OR_RETURN(const bool row, Step());
  if (row) {
    Reset();
    return Internal("journal: a statement without rows gave one");
  }
  return OkStatus();
}

double Statement::Real(int column) const {
  if (sqlite3_column_type(statement_.get(), column) == SQLITE_NULL) {
    return std::numeric_limits<double>::quiet_NaN();
  }
  return sqlite3_column_double(statement_.get(), column);
}

std::string Statement::Text(int column) const {
  const unsigned char* text = sqlite3_column_text(statement_.get(), column);
  const int size = sqlite3_column_bytes(statement_.get(), column);
  return text == nullptr ? std::string()
                         : std::string(reinterpret_cast<const char*>(text), static_cast<size_t>(size));
}

Bytes Statement::Blob(int column) const {
  const auto* data = static_cast<const uint8_t*>(sqlite3_column_blob(statement_.get(), column));
  const int size = sqlite3_column_bytes(statement_.get(), column);
  return data == nullptr ? Bytes() : Bytes(data, data + size);
}

StatusOr<Digest> Statement::Hash(int column) const {
  const Bytes bytes = Blob(column);
  if (bytes.size() != 32) return DataLoss("journal: expected a hash of 32 bytes, got {}", bytes.size());
  return Digest::From(bytes);
}

Status Execute(sqlite3* db, const char* sql) {
  if (sqlite3_exec(db, sql, nullptr, nullptr, nullptr) != SQLITE_OK) return SqliteStatus(db, "journal");
  return OkStatus();
}

}  // namespace concordat::coordinator
