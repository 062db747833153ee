/* The least that running a container asks of the kernel: namespaces, mounts, devices, pivot, masks,
 * capabilities, execve. No config, no cgroup, no filter, no state, no check. What a runtime takes
 * beyond this is its own doing.
 *
 *     floor ROOTFS PROGRAM [ARGUMENT...]
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define MUST(call) do { if ((call) < 0) { perror(#call); _exit(99); } } while (0)
#define QUIET (MS_NOSUID | MS_NOEXEC | MS_NODEV)

static void mount_all(void)
{
    MUST(mount("proc", "proc", "proc", QUIET, NULL));
    MUST(mount("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k"));
    MUST(mkdir("dev/pts", 0755));
    MUST(mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666"));
    MUST(mkdir("dev/shm", 0755));
    MUST(mount("shm", "dev/shm", "tmpfs", QUIET, "mode=1777,size=65536k"));
    MUST(mkdir("dev/mqueue", 0755));
    MUST(mount("mqueue", "dev/mqueue", "mqueue", QUIET, NULL));
    MUST(mount("sysfs", "sys", "sysfs", QUIET | MS_RDONLY, NULL));
}

static void make_devices(void)
{
    static const struct { const char *path; int major, minor; } devices[] = {
        {"dev/null", 1, 3}, {"dev/zero", 1, 5}, {"dev/full", 1, 7},
        {"dev/random", 1, 8}, {"dev/urandom", 1, 9}, {"dev/tty", 5, 0},
    };
    umask(0);
    for (unsigned i = 0; i < sizeof devices / sizeof *devices; i++)
        MUST(mknod(devices[i].path, S_IFCHR | 0666, makedev(devices[i].major, devices[i].minor)));
    umask(022);
    MUST(symlink("/proc/self/fd", "dev/fd"));
    MUST(symlink("/proc/self/fd/0", "dev/stdin"));
    MUST(symlink("/proc/self/fd/1", "dev/stdout"));
    MUST(symlink("/proc/self/fd/2", "dev/stderr"));
    MUST(symlink("pts/ptmx", "dev/ptmx"));
}

static void cover(void)
{
    static const char *const masked[] = {"/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"};
    static const char *const readonly[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};
    struct stat found;
    for (unsigned i = 0; i < sizeof masked / sizeof *masked; i++) {
        if (stat(masked[i], &found) < 0)
            continue;
        if (S_ISDIR(found.st_mode))
            MUST(mount("tmpfs", masked[i], "tmpfs", MS_RDONLY, NULL));
        else
            MUST(mount("/dev/null", masked[i], NULL, MS_BIND, NULL));
    }
    for (unsigned i = 0; i < sizeof readonly / sizeof *readonly; i++) {
        if (mount(readonly[i], readonly[i], NULL, MS_BIND | MS_REC, NULL) < 0 && errno == ENOENT)
            continue;
        MUST(mount(NULL, readonly[i], NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | QUIET, NULL));
    }
}

static void become(void)
{
    const unsigned kept = 0xa80425fb; /* what engines leave a container */
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct sets[2] = {{kept, kept, 0}, {0, 0, 0}};
    for (int capability = 0; capability < 64; capability++) {
        if (capability < 32 && kept >> capability & 1)
            continue;
        if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0)
            break;
    }
    MUST(syscall(SYS_setgroups, 0, NULL));
    MUST(syscall(SYS_setresgid, 0, 0, 0));
    MUST(syscall(SYS_setresuid, 0, 0, 0));
    MUST(syscall(SYS_capset, &header, sets));
    MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
}

int main(int count, char **arguments)
{
    struct clone_args how = {
        .flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET,
        .exit_signal = SIGCHLD,
    };
    int status;
    if (count < 3)
        return 2;
    long child = syscall(SYS_clone3, &how, sizeof how);
    MUST(child);
    if (child == 0) {
        MUST(mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL));
        MUST(mount(arguments[1], arguments[1], NULL, MS_BIND | MS_REC, NULL));
        MUST(chdir(arguments[1]));
        mount_all();
        make_devices();
        MUST(syscall(SYS_pivot_root, ".", "."));
        MUST(umount2(".", MNT_DETACH));
        MUST(chdir("/"));
        cover();
        MUST(sethostname("floor", 5));
        become();
        execve(arguments[2], arguments + 2, (char *[]){"PATH=/bin", NULL});
        _exit(127);
    }
    MUST(waitpid(child, &status, 0));
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}
