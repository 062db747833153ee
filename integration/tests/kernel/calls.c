/* Makes system calls as the tests of seccomp want them, and tells on standard output what came of
 * them. Built by the tests, statically, to run in containers.
 *
 *   calls call DOOR NUMBER [ARGUMENT]...   one call: prints the value, or -ERRNO
 *   calls thread NUMBER                    the call in a second thread, then prints "alive"
 *   calls traced NUMBER                    the call in a child: prints what its tracer is told
 *   calls agent PATH                       listens at PATH for listeners, prints the state that comes
 *                                          with each, and answers: see `answer`
 *   calls busy NUMBER COUNT [ARGUMENT]...  the call again and again: prints nanoseconds a call
 *
 * A door is native, x86 (int 0x80) or x32. SIGSYS is caught and told.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long by_syscall(long number, const long *a)
{
	long answer = number;
	register long r10 __asm__("r10") = a[3];
	register long r8 __asm__("r8") = a[4];
	register long r9 __asm__("r9") = a[5];
	__asm__ volatile("syscall"
			 : "+a"(answer)
			 : "D"(a[0]), "S"(a[1]), "d"(a[2]), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return answer;
}

static long by_interrupt(long number, const long *a)
{
	long answer = number;
	__asm__ volatile("int $0x80"
			 : "+a"(answer)
			 : "b"(a[0]), "c"(a[1]), "d"(a[2]), "S"(a[3]), "D"(a[4])
			 : "r8", "r9", "r10", "r11", "memory");
	return (int)answer;
}

static long by_door(const char *door, long number, const long *a)
{
	if (!strcmp(door, "x86"))
		return by_interrupt(number, a);
	if (!strcmp(door, "x32"))
		number |= 0x40000000;
	return by_syscall(number, a);
}

static void on_sigsys(int signal, siginfo_t *info, void *context)
{
	(void)signal, (void)context;
	const char *arch = info->si_arch == AUDIT_ARCH_I386 ? "x86" : "x86_64";
	printf("SIGSYS of %d on %s, errno %d\n", info->si_syscall, arch, info->si_errno);
	fflush(stdout);
	_exit(0);
}

static void *in_thread(void *number)
{
	const long none[6] = { 0 };
	by_syscall((long)number, none);
	return NULL;
}

static int thread(long number)
{
	pthread_t other;
	if (pthread_create(&other, NULL, in_thread, (void *)number))
		return 1;
	pthread_join(other, NULL);
	puts("alive");
	return 0;
}

static int traced(long number)
{
	const long none[6] = { 0 };
	pid_t child = fork();
	if (child == 0) {
		raise(SIGSTOP);
		printf("answer %ld\n", by_syscall(number, none));
		fflush(stdout);
		_exit(0);
	}
	int status;
	waitpid(child, &status, WUNTRACED);
	if (ptrace(PTRACE_SEIZE, child, NULL, PTRACE_O_TRACESECCOMP))
		return perror("seize"), 1;
	kill(child, SIGCONT);
	while (waitpid(child, &status, 0) == child && !WIFEXITED(status)) {
		unsigned long message = 0;
		if (status >> 8 == (SIGTRAP | PTRACE_EVENT_SECCOMP << 8)) {
			ptrace(PTRACE_GETEVENTMSG, child, NULL, &message);
			printf("message %lu\n", message);
			fflush(stdout);
		}
		ptrace(PTRACE_CONT, child, NULL, NULL);
	}
	return 0;
}

/* mkdir is done without being done, rmdir is busy, all else goes on as if nobody had asked. */
static void answer(int listener)
{
	struct seccomp_notif call;
	struct seccomp_notif_resp answer;
	struct pollfd watched = { .fd = listener, .events = POLLIN };
	while (poll(&watched, 1, -1) > 0 && !(watched.revents & POLLHUP)) {
		memset(&call, 0, sizeof call);
		/* The caller may have been killed meanwhile. */
		if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &call))
			continue;
		printf("notified of %d\n", call.data.nr);
		memset(&answer, 0, sizeof answer);
		answer.id = call.id;
		if (call.data.nr == SYS_mkdir)
			answer.val = 42;
		else if (call.data.nr == SYS_rmdir)
			answer.error = -EBUSY;
		else
			answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
		ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
	}
}

/* Prints the text of a connection and returns the descriptor that came with it. */
static int take(int connection)
{
	static char text[65536];
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec slice = { text, sizeof text - 1 };
	struct msghdr message = { .msg_iov = &slice, .msg_iovlen = 1,
				  .msg_control = &control, .msg_controllen = sizeof control };
	int listener = -1;
	ssize_t got = recvmsg(connection, &message, MSG_CMSG_CLOEXEC);
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	if (header && header->cmsg_type == SCM_RIGHTS)
		memcpy(&listener, CMSG_DATA(header), sizeof listener);
	for (ssize_t more = got; more > 0 && got < (ssize_t)sizeof text - 1; got += more)
		more = read(connection, text + got, sizeof text - 1 - got);
	printf("%.*s\n", (int)(got > 0 ? got : 0), text);
	return listener;
}

static int agent(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int server = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	strncpy(address.sun_path, path, sizeof address.sun_path - 1);
	if (bind(server, (struct sockaddr *)&address, sizeof address) || listen(server, 8))
		return perror(path), 1;
	chmod(path, 0666);
	puts("ready");
	for (;;) {
		int connection = accept(server, NULL, NULL);
		int listener = take(connection);
		if (fork() == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			close(server);
			close(connection);
			answer(listener);
			_exit(0);
		}
		close(connection);
		close(listener);
	}
}

static int busy(long number, long count, const long *arguments)
{
	struct timespec start, end;
	clock_gettime(CLOCK_MONOTONIC, &start);
	for (long i = 0; i < count; i++)
		by_syscall(number, arguments);
	clock_gettime(CLOCK_MONOTONIC, &end);
	double elapsed = (end.tv_sec - start.tv_sec) * 1e9 + (end.tv_nsec - start.tv_nsec);
	printf("%.1f\n", elapsed / count);
	return 0;
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
	struct sigaction action = { .sa_sigaction = on_sigsys, .sa_flags = SA_SIGINFO };
	sigaction(SIGSYS, &action, NULL);
	if (argc < 3)
		return 2;
	long arguments[6] = { 0 };
	for (int i = 4; i < argc && i < 10; i++)
		arguments[i - 4] = strtoul(argv[i], NULL, 0);
	const char *verb = argv[1];
	if (!strcmp(verb, "call") && argc > 3)
		return printf("%ld\n", by_door(argv[2], atol(argv[3]), arguments)) < 0;
	if (!strcmp(verb, "thread"))
		return thread(atol(argv[2]));
	if (!strcmp(verb, "traced"))
		return traced(atol(argv[2]));
	if (!strcmp(verb, "agent")) {
		signal(SIGCHLD, SIG_IGN);
		return agent(argv[2]);
	}
	if (!strcmp(verb, "busy") && argc > 3)
		return busy(atol(argv[2]), atol(argv[3]), arguments);
	return 2;
}
