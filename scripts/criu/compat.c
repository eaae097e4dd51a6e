// Preloaded into criu 4.1.1, which takes two answers of the kernel for failures.
//
// Since Linux 6.16, SO_PASSCRED and SO_PASSSEC exist for unix sockets only: of other sockets
// they are off. And root of a container without CAP_SYS_RESOURCE may not ask for the limits of
// another user's process with prlimit64, but may read them in /proc.
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

// raw makes a system call and returns the kernel's result.
static long raw(long number, const long *a)
{
#if defined(__x86_64__)
	register long r10 __asm__("r10") = a[3];
	register long r8 __asm__("r8") = a[4];
	register long r9 __asm__("r9") = a[5];
	long result;
	__asm__ volatile("syscall" : "=a"(result) : "0"(number), "D"(a[0]), "S"(a[1]), "d"(a[2]), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
	return result;
#elif defined(__aarch64__)
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = a[0];
	register long x1 __asm__("x1") = a[1];
	register long x2 __asm__("x2") = a[2];
	register long x3 __asm__("x3") = a[3];
	register long x4 __asm__("x4") = a[4];
	register long x5 __asm__("x5") = a[5];
	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
	return x0;
#else
#error "no system calls for this architecture"
#endif
}

int getsockopt(int fd, int level, int name, void *value, socklen_t *length)
{
	int result = syscall(SYS_getsockopt, fd, level, name, value, length);
	if (result == 0 || errno != EOPNOTSUPP || level != SOL_SOCKET || *length < sizeof(int))
		return result;
	if (name != SO_PASSCRED && name != SO_PASSSEC)
		return result;
	memset(value, 0, sizeof(int));
	*length = sizeof(int);
	return 0;
}

// The first words of the lines of /proc/PID/limits, by the number of the limit.
static const char *const names[] = {
	[RLIMIT_CPU] = "Max cpu time", [RLIMIT_FSIZE] = "Max file size", [RLIMIT_DATA] = "Max data size",
	[RLIMIT_STACK] = "Max stack size", [RLIMIT_CORE] = "Max core file size", [RLIMIT_RSS] = "Max resident set",
	[RLIMIT_NPROC] = "Max processes", [RLIMIT_NOFILE] = "Max open files", [RLIMIT_MEMLOCK] = "Max locked memory",
	[RLIMIT_AS] = "Max address space", [RLIMIT_LOCKS] = "Max file locks", [RLIMIT_SIGPENDING] = "Max pending signals",
	[RLIMIT_MSGQUEUE] = "Max msgqueue size", [RLIMIT_NICE] = "Max nice priority",
	[RLIMIT_RTPRIO] = "Max realtime priority", [RLIMIT_RTTIME] = "Max realtime timeout",
};

static rlim_t parse(const char *word)
{
	return strcmp(word, "unlimited") ? strtoull(word, NULL, 10) : RLIM_INFINITY;
}

static int read_limit(pid_t pid, unsigned number, struct rlimit *limit)
{
	char path[40], line[200], soft[32], hard[32];
	int found = -1;
	if (number >= sizeof(names) / sizeof(*names) || !names[number])
		return -1;
	snprintf(path, sizeof(path), "/proc/%d/limits", (int)pid);
	FILE *file = fopen(path, "re");
	if (!file)
		return -1;
	while (found && fgets(line, sizeof(line), file)) {
		// The name takes 25 columns.
		if (strncmp(line, names[number], strlen(names[number])) || strlen(line) < 26)
			continue;
		if (sscanf(line + 25, "%31s %31s", soft, hard) == 2) {
			limit->rlim_cur = parse(soft);
			limit->rlim_max = parse(hard);
			found = 0;
		}
	}
	fclose(file);
	return found;
}

// criu calls the kernel through syscall of the C library, and not through prlimit.
long syscall(long number, ...)
{
	long a[6], result;
	va_list list;
	va_start(list, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(list, long);
	va_end(list);
	result = raw(number, a);
	if (result == -EPERM && number == SYS_prlimit64 && !a[2] && a[3] && !read_limit(a[0], a[1], (void *)a[3]))
		result = 0;
	if (result >= 0 || result < -4095)
		return result;
	errno = -result;
	return -1;
}
