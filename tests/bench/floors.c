// What the machine itself costs, to compare brokers with; nothing of tidemill is in it.
//
//   floors stream MEGABYTES DIR            F1: CPU-seconds a GB to receive 256 KiB chunks over loopback and
//                                          append them to a preallocated file; F2: to send one hot 256 KiB buffer
//   floors sync BYTES PER_SECOND SECONDS DIR   seconds from a paced write of BYTES to the end of its fdatasync
//
// Each prints one line of JSON.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { CHUNK = 256 << 10 };

static double now(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

static void check(int good, const char *what) {
  if (good) return;
  perror(what);
  exit(1);
}

static int open_scratch(const char *dir) {
  char path[4096];
  snprintf(path, sizeof path, "%s/floor.XXXXXX", dir);
  int file = mkstemp(path);
  check(file >= 0, path);
  unlink(path);
  return file;
}

static size_t total;
static struct sockaddr_in address;
static double sender_cpu;

static void *send_all(void *unused) {
  (void)unused;
  int s = socket(AF_INET, SOCK_STREAM, 0);
  check(connect(s, (void *)&address, sizeof address) == 0, "connect");
  char *buffer = malloc(CHUNK);
  memset(buffer, 7, CHUNK);
  double began = now(CLOCK_THREAD_CPUTIME_ID);
  for (size_t sent = 0; sent < total;) {
    ssize_t wrote = write(s, buffer, CHUNK);
    check(wrote > 0, "send");
    sent += wrote;
  }
  sender_cpu = now(CLOCK_THREAD_CPUTIME_ID) - began;
  close(s);
  free(buffer);
  return NULL;
}

static void stream(size_t megabytes, const char *dir) {
  total = megabytes << 20;
  int listener = socket(AF_INET, SOCK_STREAM, 0);
  address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof address;
  check(bind(listener, (void *)&address, sizeof address) == 0 && listen(listener, 1) == 0, "listen");
  getsockname(listener, (void *)&address, &length);
  pthread_t sender;
  check(pthread_create(&sender, NULL, send_all, NULL) == 0, "thread");
  int s = accept(listener, NULL, NULL), file = open_scratch(dir);
  check(posix_fallocate(file, 0, total) == 0, "fallocate");
  char *buffer = malloc(CHUNK);
  memset(buffer, 1, CHUNK);
  double began = now(CLOCK_THREAD_CPUTIME_ID);
  size_t received = 0, filled = 0;
  for (ssize_t got; (got = read(s, buffer + filled, CHUNK - filled)) > 0;) {
    filled += got, received += got;
    if (filled == CHUNK) {
      check(write(file, buffer, filled) == (ssize_t)filled, "append");
      filled = 0;
    }
  }
  double receiver_cpu = now(CLOCK_THREAD_CPUTIME_ID) - began;
  pthread_join(sender, NULL);
  printf("{\"f1\": %.4f, \"f2\": %.4f}\n", receiver_cpu / (received / 1e9), sender_cpu / (received / 1e9));
}

static int by_size(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static void sync_paced(size_t bytes, int per_second, int seconds, const char *dir) {
  int file = open_scratch(dir), count = per_second * seconds;
  char *buffer = calloc(1, bytes);
  double *taken = calloc(count, sizeof *taken);
  // Written once before, so that a sync has no metadata to write: that is as cheap as it gets.
  for (int i = 0; i < count; i++) check(write(file, buffer, bytes) == (ssize_t)bytes, "write");
  check(fsync(file) == 0, "fsync");
  double began = now(CLOCK_MONOTONIC);
  for (int i = 0; i < count; i++) {
    double wait = began + (double)i / per_second - now(CLOCK_MONOTONIC);
    if (wait > 0) usleep(wait * 1e6);
    double from = now(CLOCK_MONOTONIC);
    check(pwrite(file, buffer, bytes, (off_t)i * bytes) == (ssize_t)bytes && fdatasync(file) == 0, "append");
    taken[i] = now(CLOCK_MONOTONIC) - from;
  }
  qsort(taken, count, sizeof *taken, by_size);
  printf("{\"p50\": %.6f, \"p99\": %.6f, \"max\": %.6f}\n", taken[count / 2], taken[(int)(count * 0.99)], taken[count - 1]);
}

int main(int argc, char **argv) {
  if (argc == 4 && !strcmp(argv[1], "stream"))
    stream(atol(argv[2]), argv[3]);
  else if (argc == 6 && !strcmp(argv[1], "sync"))
    sync_paced(atol(argv[2]), atoi(argv[3]), atoi(argv[4]), argv[5]);
  else
    return fprintf(stderr, "floors stream MEGABYTES DIR | floors sync BYTES PER_SECOND SECONDS DIR\n"), 2;
  return 0;
}
