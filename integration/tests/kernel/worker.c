/* Programs with something to lose, for the tests of checkpoint and restore. Each writes 1, 2, 3 and
 * so on on standard output, a number for each round, and ends with 1 when anything was lost. Built
 * by the tests, statically, to run in containers.
 *
 *   worker threads COUNT     each round, every thread takes a step
 *   worker memory MEGABYTES  each round, all memory is as it was, and one page more is changed
 *   worker pipe PATH         each round, a child sends the number back, and it is added to a file
 *   worker tcp PORT          each round, a child sends the number back by a connection of loopback
 *   worker again PORT        as tcp, but makes a new connection and the file /again when one is closed
 *   worker backlog PORT      has a connection that it has not accepted, and counts
 *   worker lock PATH         holds a lock of a file of each kind, and counts
 *   worker unix PATH         each round, sends the number to a datagram socket of somebody else's
 *   worker listen PORT       answers each connection with a number
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static void say(long number)
{
	char line[32];
	int length = snprintf(line, sizeof line, "%ld\n", number);
	if (write(1, line, length) != length)
		_exit(1);
	struct timespec pause = { .tv_nsec = 20 * 1000 * 1000 };
	nanosleep(&pause, NULL);
}

static void lost(const char *what)
{
	perror(what);
	_exit(1);
}

static atomic_long round_number;
static atomic_long steps[256];

static void *step(void *place)
{
	long mine = (long)place;
	for (long done = 0;;) {
		long now = atomic_load(&round_number);
		if (now == done) {
			usleep(500);
			continue;
		}
		done = now;
		atomic_fetch_add(&steps[mine], 1);
	}
	return NULL;
}

static void threads(long count)
{
	for (long i = 0; i < count; i++) {
		pthread_t thread;
		if (pthread_create(&thread, NULL, step, (void *)i))
			lost("thread");
	}
	for (long n = 1;; n++) {
		atomic_store(&round_number, n);
		for (long i = 0; i < count; i++)
			while (atomic_load(&steps[i]) != n)
				usleep(500);
		say(n);
	}
}

static void memory(long megabytes)
{
	long pages = megabytes << 8;
	long *all = mmap(NULL, pages << 12, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (all == MAP_FAILED)
		lost("mmap");
	for (long i = 0; i < pages; i++)
		all[i << 9] = i * 7 + 1;
	for (long n = 1;; n++) {
		for (long i = 0; i < pages; i++)
			if (all[i << 9] != i * 7 + 1 && all[i << 9] != -1)
				lost("memory");
		all[(n % pages) << 9] = -1;
		say(n);
	}
}

/* Sends back what it gets, until the other end is gone or the parent is. */
static void echo(int from, int to)
{
	char buffer[64];
	ssize_t length;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while ((length = read(from, buffer, sizeof buffer)) > 0)
		if (write(to, buffer, length) != length)
			break;
	_exit(0);
}

static void exchange(int from, int to, int file)
{
	for (long n = 1;; n++) {
		long back = 0;
		if (write(to, &n, sizeof n) != sizeof n || read(from, &back, sizeof back) != sizeof back)
			lost("exchange");
		if (back != n)
			lost("another number");
		if (file >= 0 && lseek(file, 0, SEEK_CUR) != (n - 1) * 2)
			lost("position");
		if (file >= 0 && write(file, "x\n", 2) != 2)
			lost("file");
		say(n);
	}
}

static void pipes(const char *path)
{
	int there[2], back[2];
	int file = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	if (file < 0 || pipe(there) || pipe(back))
		lost("open");
	if (!fork()) {
		close(there[1]);
		close(back[0]);
		echo(there[0], back[1]);
	}
	close(there[0]);
	close(back[1]);
	exchange(back[0], there[1], file);
}

static int listener(long port)
{
	int one = 1, listening = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(listening, (void *)&address, sizeof address) || listen(listening, 8))
		lost("listen");
	return listening;
}

static int client(long port)
{
	int client = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (connect(client, (void *)&address, sizeof address))
		lost("connect");
	return client;
}

static int connection(int listening, long port)
{
	if (!fork()) {
		int end = client(port);
		close(listening);
		echo(end, end);
	}
	int end = accept(listening, NULL, NULL);
	if (end < 0)
		lost("accept");
	return end;
}

static void tcp(long port)
{
	int end = connection(listener(port), port);
	exchange(end, end, -1);
}

static void again(long port)
{
	int listening = listener(port), end = connection(listening, port);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGCHLD, SIG_IGN);
	for (long n = 1;; n++) {
		long back = 0;
		while (write(end, &n, sizeof n) != sizeof n || read(end, &back, sizeof back) != sizeof back) {
			close(end);
			end = connection(listening, port);
			if (open("/again", O_CREAT | O_WRONLY | O_CLOEXEC, 0600) < 0)
				lost("open");
		}
		if (back != n)
			lost("another number");
		say(n);
	}
}

static void backlog(long port)
{
	listener(port);
	client(port);
	for (long n = 1;; n++)
		say(n);
}

static void lock(const char *path)
{
	struct flock record = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 3, .l_len = 5 };
	int file = open(path, O_RDWR | O_CREAT, 0600);
	if (file < 0 || flock(file, LOCK_EX | LOCK_NB) || fcntl(file, F_SETLK, &record))
		lost("lock");
	for (long n = 1;; n++)
		say(n);
}

static void datagrams(const char *path)
{
	int end = socket(AF_UNIX, SOCK_DGRAM, 0);
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	strncpy(address.sun_path, path, sizeof address.sun_path - 1);
	if (end < 0 || connect(end, (void *)&address, sizeof address))
		lost("connect");
	for (long n = 1;; n++) {
		if (send(end, &n, sizeof n, 0) != sizeof n)
			lost("send");
		say(n);
	}
}

static void answer(long port)
{
	int listening = listener(port);
	for (long n = 1;; n++) {
		char line[32];
		int connection = accept(listening, NULL, NULL);
		if (connection < 0)
			lost("accept");
		int length = snprintf(line, sizeof line, "%ld\n", n);
		if (write(connection, line, length) != length)
			lost("answer");
		close(connection);
	}
}

int main(int argc, char **argv)
{
	if (argc != 3)
		return 2;
	if (!strcmp(argv[1], "threads"))
		threads(atol(argv[2]) % 256);
	if (!strcmp(argv[1], "memory"))
		memory(atol(argv[2]));
	if (!strcmp(argv[1], "pipe"))
		pipes(argv[2]);
	if (!strcmp(argv[1], "tcp"))
		tcp(atol(argv[2]));
	if (!strcmp(argv[1], "again"))
		again(atol(argv[2]));
	if (!strcmp(argv[1], "backlog"))
		backlog(atol(argv[2]));
	if (!strcmp(argv[1], "lock"))
		lock(argv[2]);
	if (!strcmp(argv[1], "unix"))
		datagrams(argv[2]);
	if (!strcmp(argv[1], "listen"))
		answer(atol(argv[2]));
	return 2;
}
