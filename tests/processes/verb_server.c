/*
 * verb_server.c - the whole program behind a loop: for tests that run thousands of command lines, where starting a sanitizer build each time would take most of
 * the time. Reads lines of fields separated by tabs: file for stdout, file for stderr, seconds, then the command line behind "tandem". Each is run in a fork;
 * the answer is one line: "exit|signal|hang NUMBER PEAK_KB".
 */
#define _GNU_SOURCE
#undef main
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

int tandem_main(int argc, char **argv); /* cli/main.c */

enum { FIELDS_MAX = 64 };

static int split(char *line, char **fields)
{
    int count = 0;
    line[strcspn(line, "\n")] = 0;
    for (char *at = line; at && count < FIELDS_MAX;) fields[count++] = strsep(&at, "\t");
    fields[count] = NULL;
    return count;
}

static void redirect(const char *path, int fd, int flags)
{
    int file = open(path, flags, 0666);
    if (file < 0 || dup2(file, fd) < 0) _exit(120);
    close(file);
}

static void child(int count, char **fields, const sigset_t *mask)
{
    redirect("/dev/null", STDIN_FILENO, O_RDONLY);
    redirect(fields[0], STDOUT_FILENO, O_WRONLY | O_CREAT | O_TRUNC);
    redirect(fields[1], STDERR_FILENO, O_WRONLY | O_CREAT | O_TRUNC);
    sigprocmask(SIG_SETMASK, mask, NULL);
    fields[2] = (char *)"tandem";
    exit(tandem_main(count - 2, fields + 2));
}

/* Waits for the child, or kills it after `seconds`. */
static void judge(pid_t pid, int seconds, const sigset_t *blocked)
{
    struct timespec limit = {.tv_sec = seconds};
    int status = 0;
    struct rusage usage;
    sigtimedwait(blocked, NULL, &limit);
    pid_t done = wait4(pid, &status, WNOHANG, &usage);
    if (done == 0) {
        kill(pid, SIGKILL);
        wait4(pid, &status, 0, &usage);
        printf("hang %d %ld\n", seconds, usage.ru_maxrss);
    } else if (WIFSIGNALED(status)) printf("signal %d %ld\n", WTERMSIG(status), usage.ru_maxrss);
    else printf("exit %d %ld\n", WEXITSTATUS(status), usage.ru_maxrss);
    fflush(stdout);
}

int main(void)
{
    static char line[1 << 16];
    char *fields[FIELDS_MAX + 1];
    sigset_t blocked, before;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGCHLD);
    sigprocmask(SIG_BLOCK, &blocked, &before);
    while (fgets(line, sizeof line, stdin)) {
        int count = split(line, fields);
        if (count < 4) return 1;
        pid_t pid = fork();
        if (pid < 0) return 1;
        if (pid == 0) child(count, fields, &before);
        judge(pid, atoi(fields[2]), &blocked);
    }
    return 0;
}
