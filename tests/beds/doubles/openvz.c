/* Preloaded into what opens openvz:///system: the paths of OpenVZ are looked for below $OPENVZ_BED. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const ours[] = {"/proc/vz", "/etc/vz", "/usr/sbin/vzctl", "/usr/sbin/vzlist"};

static const char *place(const char *path, char *buffer)
{
    const char *bed = getenv("OPENVZ_BED");
    for (size_t i = 0; bed && path && i < sizeof(ours) / sizeof(*ours); i++) {
        size_t length = strlen(ours[i]);
        if (!strncmp(path, ours[i], length) && (path[length] == '/' || !path[length])) {
            snprintf(buffer, PATH_MAX, "%s%s", bed, path);
            return buffer;
        }
    }
    return path;
}

#define NEXT(name) __typeof__(&name) next = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define PLACED char buffer[PATH_MAX]; path = place(path, buffer)

int access(const char *path, int mode) { NEXT(access); PLACED; return next(path, mode); }
int unlink(const char *path) { NEXT(unlink); PLACED; return next(path); }
FILE *fopen64(const char *path, const char *mode) { NEXT(fopen64); PLACED; return next(path, mode); }
int stat64(const char *path, struct stat64 *found) { NEXT(stat64); PLACED; return next(path, found); }
DIR *opendir(const char *path) { NEXT(opendir); PLACED; return next(path); }
int execv(const char *path, char *const words[]) { NEXT(execv); PLACED; return next(path, words); }
int execve(const char *path, char *const words[], char *const environment[]) { NEXT(execve); PLACED; return next(path, words, environment); }

int rename(const char *path, const char *to)
{
    NEXT(rename);
    char second[PATH_MAX];
    PLACED;
    return next(path, place(to, second));
}

int open64(const char *path, int flags, ...)
{
    NEXT(open64);
    va_list more;
    va_start(more, flags);
    int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, int) : 0;
    va_end(more);
    PLACED;
    return next(path, flags, mode);
}

/* What open64 without a mode is called where the compiler hardens. */
int __open64_2(const char *path, int flags) { return open64(path, flags); }
