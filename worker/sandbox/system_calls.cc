#include "worker/sandbox/system_calls.h"

#include <fcntl.h>
#include <linux/sockios.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cerrno>
#include <initializer_list>
#include <memory>
#include <span>

#include "common/files.h"

namespace concordat::sandbox {
namespace {

/// Let through with any arguments: they act on the process itself or on what it has opened. Made from what
/// LibTorch, oneDNN, OpenMP and the C library called in training and evaluation (strace), with the older and
/// newer forms of the same calls. Numbers that an architecture does not have are left out by libseccomp.
constexpr int kAllowed[] = {
    // Files; Landlock says which.
    SCMP_SYS(access), SCMP_SYS(close), SCMP_SYS(close_range), SCMP_SYS(copy_file_range), SCMP_SYS(creat),
    SCMP_SYS(dup), SCMP_SYS(dup2), SCMP_SYS(dup3), SCMP_SYS(faccessat), SCMP_SYS(faccessat2),
    SCMP_SYS(fadvise64), SCMP_SYS(fallocate), SCMP_SYS(fdatasync), SCMP_SYS(flock), SCMP_SYS(fstat),
    SCMP_SYS(fstatfs), SCMP_SYS(fsync), SCMP_SYS(ftruncate), SCMP_SYS(getcwd), SCMP_SYS(getdents),
    SCMP_SYS(getdents64), SCMP_SYS(lseek), SCMP_SYS(lstat), SCMP_SYS(mkdir), SCMP_SYS(mkdirat),
    SCMP_SYS(newfstatat), SCMP_SYS(pread64), SCMP_SYS(preadv), SCMP_SYS(preadv2), SCMP_SYS(pwrite64),
    SCMP_SYS(pwritev), SCMP_SYS(pwritev2), SCMP_SYS(read), SCMP_SYS(readahead), SCMP_SYS(readlink),
    SCMP_SYS(readlinkat), SCMP_SYS(readv), SCMP_SYS(rename), SCMP_SYS(renameat), SCMP_SYS(renameat2),
    SCMP_SYS(rmdir), SCMP_SYS(sendfile), SCMP_SYS(stat), SCMP_SYS(statfs), SCMP_SYS(statx), SCMP_SYS(unlink),
    SCMP_SYS(unlinkat), SCMP_SYS(write), SCMP_SYS(writev),
    // What it inherited, and waiting.
    SCMP_SYS(epoll_create), SCMP_SYS(epoll_create1), SCMP_SYS(epoll_ctl), SCMP_SYS(epoll_pwait),
    SCMP_SYS(epoll_pwait2), SCMP_SYS(epoll_wait), SCMP_SYS(eventfd), SCMP_SYS(eventfd2),
    SCMP_SYS(getpeername), SCMP_SYS(getsockname), SCMP_SYS(getsockopt), SCMP_SYS(pipe), SCMP_SYS(pipe2),
    SCMP_SYS(poll), SCMP_SYS(ppoll), SCMP_SYS(pselect6), SCMP_SYS(recvfrom), SCMP_SYS(recvmsg),
    SCMP_SYS(select), SCMP_SYS(sendmsg), SCMP_SYS(shutdown),
    // Memory.
    SCMP_SYS(brk), SCMP_SYS(get_mempolicy), SCMP_SYS(madvise), SCMP_SYS(mbind), SCMP_SYS(memfd_create),
    SCMP_SYS(mincore), SCMP_SYS(mlock), SCMP_SYS(mlock2), SCMP_SYS(mmap), SCMP_SYS(mprotect),
    SCMP_SYS(mremap), SCMP_SYS(msync), SCMP_SYS(munlock), SCMP_SYS(munmap), SCMP_SYS(set_mempolicy),
    // Threads, and the end.
    SCMP_SYS(arch_prctl), SCMP_SYS(exit), SCMP_SYS(exit_group), SCMP_SYS(futex), SCMP_SYS(futex_waitv),
    SCMP_SYS(getcpu), SCMP_SYS(membarrier), SCMP_SYS(restart_syscall), SCMP_SYS(rseq),
    SCMP_SYS(sched_get_priority_max), SCMP_SYS(sched_get_priority_min), SCMP_SYS(sched_getaffinity),
    SCMP_SYS(sched_getparam), SCMP_SYS(sched_getscheduler), SCMP_SYS(sched_yield), SCMP_SYS(set_robust_list),
    SCMP_SYS(set_tid_address),
    // Its own signals.
    SCMP_SYS(pause), SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigpending), SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn), SCMP_SYS(rt_sigsuspend), SCMP_SYS(rt_sigtimedwait), SCMP_SYS(sigaltstack),
    // Clocks, randomness, who and where it is.
    SCMP_SYS(capget), SCMP_SYS(clock_getres), SCMP_SYS(clock_gettime), SCMP_SYS(clock_nanosleep),
    SCMP_SYS(getegid), SCMP_SYS(geteuid), SCMP_SYS(getgid), SCMP_SYS(getgroups), SCMP_SYS(getitimer),
    SCMP_SYS(getpgid), SCMP_SYS(getpgrp), SCMP_SYS(getpid), SCMP_SYS(getppid), SCMP_SYS(getpriority),
    SCMP_SYS(getrandom), SCMP_SYS(getresgid), SCMP_SYS(getresuid), SCMP_SYS(getrlimit), SCMP_SYS(getrusage),
    SCMP_SYS(getsid), SCMP_SYS(gettid), SCMP_SYS(gettimeofday), SCMP_SYS(getuid), SCMP_SYS(nanosleep),
    SCMP_SYS(sysinfo), SCMP_SYS(time), SCMP_SYS(times), SCMP_SYS(uname)};

/// Ways out, and ways to harm others. They would answer ENOSYS without being named; EPERM says that it is a
/// refusal, and keeps a library from trying an older form.
constexpr int kRefused[] = {
    SCMP_SYS(socket), SCMP_SYS(socketpair), SCMP_SYS(connect), SCMP_SYS(bind), SCMP_SYS(listen),
    SCMP_SYS(accept), SCMP_SYS(accept4), SCMP_SYS(setsockopt), SCMP_SYS(execve), SCMP_SYS(execveat),
    SCMP_SYS(fork), SCMP_SYS(vfork), SCMP_SYS(ptrace), SCMP_SYS(process_vm_readv),
    SCMP_SYS(process_vm_writev), SCMP_SYS(kcmp), SCMP_SYS(pidfd_getfd), SCMP_SYS(pidfd_open),
    SCMP_SYS(pidfd_send_signal), SCMP_SYS(kill), SCMP_SYS(tkill), SCMP_SYS(rt_sigqueueinfo),
    SCMP_SYS(rt_tgsigqueueinfo), SCMP_SYS(setpgid), SCMP_SYS(setsid), SCMP_SYS(setrlimit),
    SCMP_SYS(setpriority), SCMP_SYS(sched_setattr), SCMP_SYS(sched_setparam), SCMP_SYS(sched_setscheduler),
    SCMP_SYS(ioprio_set), SCMP_SYS(move_pages), SCMP_SYS(migrate_pages),
    // Modes, owners, attributes and times: Landlock leaves them alone.
    SCMP_SYS(chmod), SCMP_SYS(fchmod), SCMP_SYS(fchmodat), SCMP_SYS(chown), SCMP_SYS(fchown),
    SCMP_SYS(fchownat), SCMP_SYS(lchown), SCMP_SYS(setxattr), SCMP_SYS(lsetxattr), SCMP_SYS(fsetxattr),
    SCMP_SYS(removexattr), SCMP_SYS(lremovexattr), SCMP_SYS(fremovexattr), SCMP_SYS(utime), SCMP_SYS(utimes),
    SCMP_SYS(futimesat), SCMP_SYS(utimensat), SCMP_SYS(truncate), SCMP_SYS(mknod), SCMP_SYS(mknodat),
    SCMP_SYS(link), SCMP_SYS(linkat), SCMP_SYS(symlink), SCMP_SYS(symlinkat), SCMP_SYS(open_by_handle_at),
    // The machine.
    SCMP_SYS(unshare), SCMP_SYS(setns), SCMP_SYS(mount), SCMP_SYS(umount2), SCMP_SYS(pivot_root),
    SCMP_SYS(chroot), SCMP_SYS(sethostname), SCMP_SYS(setdomainname), SCMP_SYS(settimeofday),
    SCMP_SYS(clock_settime), SCMP_SYS(clock_adjtime), SCMP_SYS(adjtimex), SCMP_SYS(reboot),
    SCMP_SYS(kexec_load), SCMP_SYS(kexec_file_load), SCMP_SYS(init_module), SCMP_SYS(finit_module),
    SCMP_SYS(delete_module), SCMP_SYS(swapon), SCMP_SYS(swapoff), SCMP_SYS(acct), SCMP_SYS(syslog),
    SCMP_SYS(quotactl), SCMP_SYS(bpf), SCMP_SYS(perf_event_open), SCMP_SYS(userfaultfd), SCMP_SYS(keyctl),
    SCMP_SYS(add_key), SCMP_SYS(request_key), SCMP_SYS(capset), SCMP_SYS(setuid), SCMP_SYS(setgid),
    // io_uring can open sockets past a filter; the queues reach other processes.
    SCMP_SYS(io_uring_setup), SCMP_SYS(io_uring_enter), SCMP_SYS(io_uring_register), SCMP_SYS(msgget),
    SCMP_SYS(mq_open), SCMP_SYS(shmget), SCMP_SYS(semget)};

constexpr uint64_t kThread = 0x00010000;  // CLONE_THREAD
constexpr uint64_t kNamespaces = 0x7e020000 | 0x80;

class Filter {
 public:
  Filter() : filter_(seccomp_init(SCMP_ACT_ERRNO(ENOSYS)), &seccomp_release) {}

  void Add(uint32_t action, std::span<const int> calls) {
    for (int call : calls) Add(action, call, {});
  }
  void Add(uint32_t action, int call, std::initializer_list<scmp_arg_cmp> arguments) {
    if (error_ != 0) return;
    if (filter_ == nullptr) {
      error_ = -ENOMEM;
      return;
    }
    error_ = seccomp_rule_add_array(filter_.get(), action, call, static_cast<unsigned>(arguments.size()),
                                    arguments.begin());
  }
  void Allow(int call, std::initializer_list<scmp_arg_cmp> arguments) {
    Add(SCMP_ACT_ALLOW, call, arguments);
  }
  /// Let through when the argument's bits under `mask` are `value`. The kernel looks at the lower 32 bits of
  /// an int, and so must every comparison here: what a caller puts above them means nothing.
  void AllowBits(int call, unsigned argument, uint64_t mask, uint64_t value) {
    Allow(call, {scmp_arg_cmp{argument, SCMP_CMP_MASKED_EQ, mask, value}});
  }
  void AllowInt(int call, unsigned argument, std::initializer_list<uint32_t> values) {
    for (const uint32_t value : values) AllowBits(call, argument, 0xffffffff, value);
  }
  Status Load() {
    if (error_ == 0) error_ = seccomp_load(filter_.get());
    if (error_ != 0) return ErrnoStatus(-error_, "seccomp cannot load the filter", "");
    return OkStatus();
  }

 private:
  std::unique_ptr<void, decltype(&seccomp_release)> filter_;
  int error_ = 0;
};

void AllowOpening(Filter& filter) {
  for (const auto& [call, flags] : {std::pair{SCMP_SYS(open), 1u}, std::pair{SCMP_SYS(openat), 2u}}) {
    filter.AllowBits(call, flags, O_TRUNC, 0);
    filter.AllowBits(call, flags, O_ACCMODE | O_TRUNC, O_WRONLY | O_TRUNC);
    filter.AllowBits(call, flags, O_ACCMODE | O_TRUNC, O_RDWR | O_TRUNC);
  }
}

void AllowOnItself(Filter& filter) {
  filter.AllowInt(SCMP_SYS(tgkill), 0, {static_cast<uint32_t>(::getpid())});
  filter.AllowInt(SCMP_SYS(sched_setaffinity), 0, {0});
  for (const uint32_t self : {0u, static_cast<uint32_t>(::getpid())}) {
    filter.Allow(SCMP_SYS(prlimit64),
                 {scmp_arg_cmp{0, SCMP_CMP_MASKED_EQ, 0xffffffff, self}, scmp_arg_cmp{2, SCMP_CMP_EQ, 0, 0}});
  }
  filter.AllowBits(SCMP_SYS(clone), 0, kThread | kNamespaces, kThread);
  filter.AllowInt(SCMP_SYS(prctl), 0,
                  {PR_SET_NAME, PR_GET_NAME, PR_GET_DUMPABLE, PR_GET_SECCOMP, PR_GET_NO_NEW_PRIVS,
                   PR_GET_PDEATHSIG, PR_CAPBSET_READ});
}

void AllowOnDescriptors(Filter& filter, bool accelerator) {
  filter.AllowInt(SCMP_SYS(fcntl), 1,
                  {F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_GETLK, F_SETLK, F_SETLKW,
                   F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW, F_ADD_SEALS, F_GET_SEALS});
  filter.AllowInt(SCMP_SYS(ioctl), 1, {TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIOCLEX, FIONCLEX});
  if (accelerator) {
    filter.AllowBits(SCMP_SYS(ioctl), 1, 0xff00, 'F' << 8);  // the driver's own
    filter.AllowBits(SCMP_SYS(ioctl), 1, 0xcfffff00, 0);     // unified memory: plain small numbers
  }
  filter.Allow(SCMP_SYS(sendto), {scmp_arg_cmp{4, SCMP_CMP_EQ, 0, 0}});
}

}  // namespace

Status ApplySystemCallFilter(bool accelerator) {
  Filter filter;
  filter.Add(SCMP_ACT_ALLOW, kAllowed);
  filter.Add(SCMP_ACT_ERRNO(EPERM), kRefused);
  AllowOpening(filter);
  AllowOnItself(filter);
  AllowOnDescriptors(filter, accelerator);
  // clone3 hides its flags behind a pointer, openat2 too; the C library falls back to clone and openat on
  // ENOSYS, which is what calls that are not named here get.
  return filter.Load();
}

}  // namespace concordat::sandbox
