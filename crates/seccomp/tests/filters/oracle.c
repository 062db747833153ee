/* The reference for the differential test: libseccomp's program for a profile.
 *
 * Reads lines from standard input:
 *     begin ACTION OPTIMIZE        a new filter with this default action
 *     only ARCH                    ARCH instead of the native architecture
 *     arch ARCH                    one more architecture
 *     rule ACTION NAME N [INDEX OPERATOR A B]...
 *     end                          export
 *     number ARCH NAME             look up
 *     load                         load the last filter 30 times in children
 * Answers "count microseconds_to_make\n" and count * 8 bytes to `end`, a number and a newline to
 * `number`, the least number of nanoseconds to `load`. What fails is -ERRNO in place of the first
 * number. Actions are the kernel's return values, which are libseccomp's constants as well.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000L + t.tv_nsec;
}

int main(void)
{
	scmp_filter_ctx filter = NULL;
	long failed = 0, began = 0;
	char word[64], name[128];
	int memory = memfd_create("program", 0);

	while (scanf("%63s", word) == 1) {
		if (!strcmp(word, "begin")) {
			unsigned action, optimize;
			if (scanf("%u %u", &action, &optimize) != 2)
				return 1;
			if (filter)
				seccomp_release(filter);
			began = now();
			filter = seccomp_init(action);
			failed = filter ? 0 : -EINVAL;
			if (filter)
				seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, optimize);
		} else if (!strcmp(word, "only") || !strcmp(word, "arch")) {
			if (scanf("%127s", name) != 1)
				return 1;
			int rc = seccomp_arch_add(filter, seccomp_arch_resolve_name(name));
			if (rc && rc != -EEXIST && !failed)
				failed = rc;
			if (word[0] == 'o' && !rc)
				rc = seccomp_arch_remove(filter, SCMP_ARCH_NATIVE);
			if (rc && rc != -EEXIST && !failed)
				failed = rc;
		} else if (!strcmp(word, "rule")) {
			unsigned action, count;
			struct scmp_arg_cmp args[6];
			if (scanf("%u %127s %u", &action, name, &count) != 3 || count > 6)
				return 1;
			for (unsigned i = 0; i < count; i++) {
				unsigned index, op;
				unsigned long a, b;
				if (scanf("%u %u %lu %lu", &index, &op, &a, &b) != 4)
					return 1;
				args[i] = (struct scmp_arg_cmp){index, op, a, b};
			}
			int number = seccomp_syscall_resolve_name(name);
			if (number == __NR_SCMP_ERROR)
				continue;
			int rc = seccomp_rule_add_array(filter, action, number, count, args);
			if (rc && !failed)
				failed = rc;
		} else if (!strcmp(word, "end")) {
			long count = failed;
			if (ftruncate(memory, 0) || lseek(memory, 0, SEEK_SET))
				return 1;
			if (!failed)
				count = seccomp_export_bpf(filter, memory);
			long took = now() - began;
			long bytes = lseek(memory, 0, SEEK_CUR);
			if (!count)
				count = bytes / 8;
			printf("%ld %ld\n", count, took / 1000);
			if (count > 0) {
				char *program = mmap(NULL, bytes, PROT_READ, MAP_SHARED, memory, 0);
				fwrite(program, 1, bytes, stdout);
				munmap(program, bytes);
			}
			fflush(stdout);
		} else if (!strcmp(word, "number")) {
			char arch[64];
			if (scanf("%63s %127s", arch, name) != 2)
				return 1;
			/* An architecture that this libseccomp does not know is 0, which means the native one. */
			unsigned token = seccomp_arch_resolve_name(arch);
			printf("%d\n", token ? seccomp_syscall_resolve_name_arch(token, name) : -1);
			fflush(stdout);
		} else if (!strcmp(word, "load")) {
			/* Not seccomp_load(), which makes the program once more. */
			long least = -1;
			long bytes = lseek(memory, 0, SEEK_END);
			struct sock_fprog program = {
				.len = bytes / 8,
				.filter = mmap(NULL, bytes, PROT_READ, MAP_SHARED, memory, 0),
			};
			for (int i = 0; i < 30; i++) {
				int ends[2];
				if (pipe(ends))
					return 1;
				pid_t child = fork();
				if (!child) {
					prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
					long t = now();
					int rc = prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
					t = rc ? rc : now() - t;
					if (write(ends[1], &t, sizeof t) < 0)
						_exit(1);
					_exit(0);
				}
				close(ends[1]);
				long t;
				if (read(ends[0], &t, sizeof t) == sizeof t && (least < 0 || t < least))
					least = t;
				close(ends[0]);
				waitpid(child, NULL, 0);
			}
			printf("%ld\n", least);
			fflush(stdout);
		} else {
			return 1;
		}
	}
	return 0;
}
