/* Loaded into all of an installation (LD_PRELOAD): the server's wall clock jumps by as many seconds as a file says. The
   server is known by its command line, or, where it was forked, by its name. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile long *jump;
static int known; /* it is the server */

__attribute__((constructor)) static void begin(void) {
    char words[512] = {0};
    const char *path = getenv("CHAOS_CLOCK");
    int own = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t size = own < 0 ? 0 : read(own, words, sizeof words - 1);
    for (ssize_t at = 0; at < size; at++) if (!words[at]) words[at] = ' ';
    if (own >= 0) close(own);
    known = strstr(words, "runyard.server") != NULL;
    if (!path) return;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return;
    void *found = mmap(0, sizeof(long), PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (found != MAP_FAILED) jump = found;
}

static int server(void) {
    char name[16] = {0};
    return known || (!prctl(PR_GET_NAME, name) && !strcmp(name, "runyard.server"));
}

int clock_gettime(clockid_t id, struct timespec *told) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(id, told);
    if (!result && jump && *jump && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE) && server())
        told->tv_sec += *jump;
    return result;
}

time_t time(time_t *told) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (told) *told = now.tv_sec;
    return now.tv_sec;
}

int gettimeofday(struct timeval *restrict told, void *restrict zone) {
    (void)zone;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    told->tv_sec = now.tv_sec;
    told->tv_usec = now.tv_nsec / 1000;
    return 0;
}
