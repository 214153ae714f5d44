/* A stand-in for NVIDIA's management library. At each call it reads the file FAKE_NVML_STATE anew:
 *
 *   driver 580.95          gpu NVIDIA GeForce RTX 4070    total BYTES    base BYTES (used by nobody listed)
 *   utilisation PERCENT    temperature CELSIUS            error CODE     (what every reading answers, 15: lost)
 *   process PID PERCENT    match PERCENT TEXT             (all processes whose command line holds TEXT)
 *
 * A process's memory is what it holds at that moment; one that has died holds none and is not listed.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MOST 64
enum { OK = 0, INVALID = 2, NOT_FOUND = 6, SMALL = 7, NO_DRIVER = 9 };
struct process { unsigned pid, percent; unsigned long long bytes; };
static struct state {
  char driver[64], gpu[64];
  unsigned long long total, base;
  unsigned utilisation, temperature, error, count;
  struct process processes[MOST];
} now;

static unsigned long long held(unsigned pid) {
  char path[64];
  unsigned long long size = 0, resident = 0;
  snprintf(path, sizeof path, "/proc/%u/statm", pid);
  FILE *file = fopen(path, "r");
  if (!file) return 0;
  if (fscanf(file, "%llu %llu", &size, &resident) != 2) resident = 0;
  fclose(file);
  return resident * (unsigned long long)sysconf(_SC_PAGESIZE);
}

static void list(unsigned pid, unsigned percent) {
  unsigned long long bytes = held(pid);
  if (!bytes || now.count == MOST) return;
  now.processes[now.count++] = (struct process){pid, percent, bytes};
}

static void match(const char *text, unsigned percent) {
  DIR *folder = opendir("/proc");
  struct dirent *entry;
  while (folder && (entry = readdir(folder))) {
    char path[300], line[4096];
    if (!isdigit((unsigned char)entry->d_name[0])) continue;
    snprintf(path, sizeof path, "/proc/%s/cmdline", entry->d_name);
    FILE *file = fopen(path, "r");
    if (!file) continue;
    size_t got = fread(line, 1, sizeof line - 1, file);
    fclose(file);
    for (size_t i = 0; i < got; i++) if (!line[i]) line[i] = ' ';
    line[got] = 0;
    if (strstr(line, text)) list((unsigned)atoi(entry->d_name), percent);
  }
  if (folder) closedir(folder);
}

static int look(void) {
  char line[512], *end;
  const char *path = getenv("FAKE_NVML_STATE");
  FILE *file = path ? fopen(path, "r") : NULL;
  memset(&now, 0, sizeof now);
  if (!file) return NO_DRIVER;
  while (fgets(line, sizeof line, file)) {
    line[strcspn(line, "\n")] = 0;
    char *value = strchr(line, ' ');
    if (!value) continue;
    *value++ = 0;
    unsigned long long number = strtoull(value, &end, 10);
    if (!strcmp(line, "driver")) snprintf(now.driver, sizeof now.driver, "%s", value);
    else if (!strcmp(line, "gpu")) snprintf(now.gpu, sizeof now.gpu, "%s", value);
    else if (!strcmp(line, "total")) now.total = number;
    else if (!strcmp(line, "base")) now.base = number;
    else if (!strcmp(line, "utilisation")) now.utilisation = (unsigned)number;
    else if (!strcmp(line, "temperature")) now.temperature = (unsigned)number;
    else if (!strcmp(line, "error")) now.error = (unsigned)number;
    else if (!strcmp(line, "process")) list((unsigned)number, (unsigned)atoi(end));
    else if (!strcmp(line, "match") && *end) match(end + 1, (unsigned)number);
  }
  fclose(file);
  return (int)now.error;
}

static char device;
int nvmlInitWithFlags(unsigned flags) { (void)flags; int code = look(); return code == NO_DRIVER ? code : OK; }
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { return OK; }
int nvmlDeviceGetCount_v2(unsigned *count) { look(); *count = now.gpu[0] ? 1 : 0; return OK; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
  int code = look();
  *handle = &device;
  return code ? code : index ? INVALID : OK;
}
int nvmlSystemGetDriverVersion(char *text, unsigned size) { look(); snprintf(text, size, "%s", now.driver); return OK; }
int nvmlDeviceGetName(void *handle, char *text, unsigned size) {
  (void)handle;
  int code = look();
  snprintf(text, size, "%s", now.gpu);
  return code;
}
int nvmlDeviceGetMemoryInfo(void *handle, unsigned long long *memory) { /* total, free, used */
  (void)handle;
  int code = look();
  unsigned long long used = now.base;
  for (unsigned i = 0; i < now.count; i++) used += now.processes[i].bytes;
  if (used > now.total) used = now.total;
  memory[0] = now.total, memory[1] = now.total - used, memory[2] = used;
  return code;
}
int nvmlDeviceGetUtilizationRates(void *handle, unsigned *rates) { /* gpu, memory */
  (void)handle;
  int code = look();
  rates[0] = now.utilisation, rates[1] = 0;
  return code;
}
int nvmlDeviceGetTemperatureV(void *handle, unsigned *fields) { /* version, sensor, celsius */
  (void)handle;
  int code = look();
  fields[2] = now.temperature;
  return code;
}
struct info { unsigned pid; unsigned long long bytes; unsigned instances[2]; };
int nvmlDeviceGetComputeRunningProcesses_v3(void *handle, unsigned *count, struct info *infos) {
  (void)handle;
  int code = look();
  unsigned room = *count;
  *count = now.count;
  if (code || !now.count) return code;
  if (!infos || room < now.count) return SMALL;
  for (unsigned i = 0; i < now.count; i++)
    infos[i] = (struct info){now.processes[i].pid, now.processes[i].bytes, {~0u, ~0u}};
  return OK;
}
int nvmlDeviceGetGraphicsRunningProcesses_v3(void *handle, unsigned *count, struct info *infos) {
  (void)handle, (void)infos;
  *count = 0;
  return look();
}
struct sample { unsigned pid; unsigned long long time; unsigned sm, memory, encoder, decoder; };
int nvmlDeviceGetProcessUtilization(void *handle, struct sample *samples, unsigned *count, unsigned long long since) {
  (void)handle, (void)since;
  int code = look();
  unsigned room = *count, used = 0;
  struct timespec at;
  clock_gettime(CLOCK_REALTIME, &at);
  unsigned long long time = (unsigned long long)at.tv_sec * 1000000 + (unsigned long long)at.tv_nsec / 1000;
  *count = now.count;
  if (code) return code;
  if (!now.count) return NOT_FOUND;
  if (!samples || room < now.count) return SMALL;
  for (unsigned i = 0; i < now.count; i++)
    if (now.processes[i].percent) samples[used++] = (struct sample){now.processes[i].pid, time, now.processes[i].percent, 0, 0, 0};
  *count = used;
  return used ? OK : NOT_FOUND;
}
const char *nvmlErrorString(int code) {
  switch (code) {
    case NOT_FOUND: return "Not Found";
    case NO_DRIVER: return "Driver Not Loaded";
    case 15: return "GPU is lost";
    default: return "Unknown Error";
  }
}
