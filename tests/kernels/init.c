/* The first process of an emulated kernel: loads modules, puts this machine's files under /host, runs the
 * command of /cmd there as root, and reports its exit status on the console. Built static, alone in its
 * initramfs but for the modules. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

static FILE *console;

static void finish(int status) {
  fprintf(console, "\nskep-init: status %d\n", status);
  fflush(console);
  tcdrain(fileno(console));
  sync();
  reboot(RB_AUTOBOOT); /* qemu runs with -no-reboot: this ends it */
  for (;;) pause();
}

static void load_modules(void) {
  char name[256];
  FILE *order = fopen("/mods/order", "r");
  if (!order) return;
  while (fgets(name, sizeof name, order)) {
    name[strcspn(name, "\n")] = 0;
    char path[300];
    snprintf(path, sizeof path, "/mods/%s", name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || syscall(SYS_finit_module, fd, "", 0)) fprintf(console, "skep-init: module %s: %m\n", name);
    if (fd >= 0) close(fd);
  }
  fclose(order);
}

static void place(const char *kind, const char *where) {
  if (mount(kind, where, kind, 0, NULL)) fprintf(console, "skep-init: %s on %s: %m\n", kind, where);
}

static void raw(int fd) {
  struct termios mode;
  if (tcgetattr(fd, &mode)) return;
  cfmakeraw(&mode);
  cfsetspeed(&mode, B115200);
  tcsetattr(fd, TCSANOW, &mode);
}

static void loopback_up(void) {
  struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
  int fd = socket(AF_INET, SOCK_DGRAM, 0);
  if (fd >= 0) ioctl(fd, SIOCSIFFLAGS, &request), close(fd);
}

/* /cmd: the folder to be in, then the words of the command, each ended by a zero byte. */
static void run(void) {
  static char text[1 << 16];
  static char *words[1024];
  int fd = open("/cmd", O_RDONLY), count = 0;
  ssize_t size = read(fd, text, sizeof text - 1);
  close(fd);
  if (size <= 0) finish(121);
  for (char *at = text; at < text + size && count < 1023; at += strlen(at) + 1) words[count++] = at;
  if (chroot("/host") || chdir("/")) finish(122);
  if (chdir(words[0])) fprintf(console, "skep-init: %s: %m\n", words[0]);
  int out = open("/dev/ttyS1", O_RDWR | O_NOCTTY), in = open("/dev/null", O_RDONLY);
  raw(out);
  dup2(in, 0), dup2(out, 1), dup2(out, 2);
  clearenv();
  setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
  setenv("HOME", "/root", 1), setenv("TMPDIR", "/run", 1), setenv("TERM", "dumb", 1);
  setenv("PYTHONDONTWRITEBYTECODE", "1", 1);
  execvp(words[1], words + 1);
  dprintf(2, "%s: %m\n", words[1]);
  _exit(127);
}

int main(void) {
  mkdir("/dev", 0755), mkdir("/proc", 0755), mkdir("/sys", 0755), mkdir("/host", 0755);
  mount("dev", "/dev", "devtmpfs", 0, NULL);
  console = fopen("/dev/console", "w");
  if (!console) console = stderr;
  place("proc", "/proc"), place("sysfs", "/sys");
  load_modules();
  if (mount("host", "/host", "virtiofs", MS_RDONLY, NULL)) {
    fprintf(console, "skep-init: this machine's files: %m\n");
    finish(120);
  }
  place("proc", "/host/proc"), place("sysfs", "/host/sys"), place("devtmpfs", "/host/dev");
  mkdir("/host/dev/shm", 01777), mkdir("/host/dev/pts", 0755);
  place("tmpfs", "/host/dev/shm"), place("devpts", "/host/dev/pts"), place("tmpfs", "/host/run");
  place("cgroup2", "/host/sys/fs/cgroup"), place("bpf", "/host/sys/fs/bpf");
  place("debugfs", "/host/sys/kernel/debug"), place("tracefs", "/host/sys/kernel/tracing");
  loopback_up();
  fprintf(console, "skep-init: ready\n");
  fflush(console);
  int status = 0;
  pid_t child = fork();
  if (!child) run();
  while (waitpid(-1, &status, 0) != child) {}
  int serial = open("/host/dev/ttyS1", O_RDWR | O_NOCTTY);
  tcdrain(serial);
  finish(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}
