/*
 * A stand-in for libnvidia-ml.so.1, for machines without a driver. It reads the file
 * that the variable NVML_STANDIN_STATE names anew for each call:
 *
 *   driver 580.95.05                        the driver's version
 *   card GPU-1 85899345920 1024 NVIDIA H100 a card: UUID, size, what is used, name
 *   slice MIG-1 1024 0 NVIDIA H100 MIG      a slice of the card above it
 *   compute 4242 1024                       a process on the card or slice above it,
 *   graphics 4243 unknown                   in one of three lists, and what it uses
 *   mps 4244 1024
 *   fail nvmlInit 9                         that call returns that code ...
 *   fail nvmlDeviceGetName 15 GPU-1         ... or only for that card
 *   hang nvmlDeviceGetMemoryInfo            that call does not return while this stands
 *
 * Without the file, or without a line "driver", the driver is not loaded. Compiled
 * with -DOLD it lacks what old libraries lack, with -DOTHER it is another library.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OK, UNINITIALIZED, INVALID_ARGUMENT, NOT_SUPPORTED, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, DRIVER_NOT_LOADED = 9 };

typedef struct {
	char list[16];
	unsigned pid;
	unsigned long long used;
} process;

typedef struct {
	char uuid[80], name[96];
	unsigned long long total, used;
	int parent; /* -1: a card */
	process processes[16];
	int n;
} device;

static device devices[32];
static int count;
static char driver[80];
static int started;

/* enter reads the state and returns what the call is to fail with. A device is
 * known by its number from 1 on, which is its handle. */
static int enter(const char *call, void *handle) {
	const char *path = getenv("NVML_STANDIN_STATE");
	char line[512], a[128], b[128];
	unsigned long long x, y;
	int code, last, fail, hang;
again:
	count = 0, driver[0] = 0, last = -1, fail = OK, hang = 0;
	FILE *f = path ? fopen(path, "r") : NULL;
	while (f && fgets(line, sizeof line, f)) {
		line[strcspn(line, "\n")] = 0;
		device *d = count < 32 ? &devices[count] : NULL;
		int name = 0;
		if (sscanf(line, "driver %79s", driver) == 1)
			continue;
		if (d && (sscanf(line, "card %79s %llu %llu %n", a, &x, &y, &name) == 3 || sscanf(line, "slice %79s %llu %llu %n", a, &x, &y, &name) == 3)) {
			memset(d, 0, sizeof *d);
			snprintf(d->uuid, sizeof d->uuid, "%.79s", a);
			snprintf(d->name, sizeof d->name, "%.95s", line + name);
			d->total = x, d->used = y;
			d->parent = line[0] == 's' ? last : -1;
			if (line[0] == 'c')
				last = count;
			count++;
		} else if (sscanf(line, "fail %127s %d %127s", a, &code, b) == 3) {
			if (!strcmp(a, call) && handle && (long)handle <= count && !strcmp(b, devices[(long)handle - 1].uuid))
				fail = code;
		} else if (sscanf(line, "fail %127s %d", a, &code) == 2) {
			if (!strcmp(a, call))
				fail = code;
		} else if (sscanf(line, "hang %127s", a) == 1) {
			hang |= !strcmp(a, call);
		} else if (count > 0 && sscanf(line, "%15s %llu %127s", a, &x, b) == 3 && devices[count - 1].n < 16) {
			device *on = &devices[count - 1];
			process *p = &on->processes[on->n++];
			snprintf(p->list, sizeof p->list, "%.15s", a);
			p->pid = x;
			p->used = strcmp(b, "unknown") ? strtoull(b, NULL, 10) : ~0ULL;
		}
	}
	if (f)
		fclose(f);
	if (hang) {
		usleep(1000);
		goto again;
	}
	if (fail != OK)
		return fail;
	if (!driver[0])
		return strcmp(call, "nvmlInit") && started ? 999 : DRIVER_NOT_LOADED;
	if (!started && strcmp(call, "nvmlInit"))
		return UNINITIALIZED;
	if (handle && (long)handle > count)
		return INVALID_ARGUMENT;
	return OK;
}

#define ENTER(call, handle) \
	int ret = enter(call, handle); \
	if (ret != OK) return ret; \
	device *d = handle ? &devices[(long)(handle) - 1] : NULL; \
	(void)d;

#ifdef OTHER
int something_else(void) { return 0; }
#else
int nvmlInit_v2(void) {
	ENTER("nvmlInit", NULL)
	started++;
	return OK;
}

int nvmlShutdown(void) {
	if (!started)
		return UNINITIALIZED;
	started--;
	return OK;
}

/* The words are gone with the next call, as the real library's are with its end. */
const char *nvmlErrorString(int code) {
	static char words[40];
	snprintf(words, sizeof words, "stand-in error %d", code);
	return words;
}

int nvmlSystemGetDriverVersion(char *version, unsigned size) {
	ENTER("nvmlSystemGetDriverVersion", NULL)
	snprintf(version, size, "%s", driver);
	return OK;
}

/* pick finds the n-th card, or the n-th slice of a card. */
static int pick(int parent, unsigned n, void **handle) {
	for (int i = 0; i < count; i++)
		if (devices[i].parent == parent && n-- == 0) {
			*handle = (void *)(long)(i + 1);
			return OK;
		}
	return NOT_FOUND;
}

int nvmlDeviceGetCount_v2(unsigned *n) {
	ENTER("nvmlDeviceGetCount", NULL)
	*n = 0;
	for (int i = 0; i < count; i++)
		*n += devices[i].parent < 0;
	return OK;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
	ENTER("nvmlDeviceGetHandleByIndex", NULL)
	return pick(-1, index, handle);
}

int nvmlDeviceGetUUID(void *handle, char *uuid, unsigned size) {
	ENTER("nvmlDeviceGetUUID", handle)
	snprintf(uuid, size, "%s", d->uuid);
	return OK;
}

int nvmlDeviceGetName(void *handle, char *name, unsigned size) {
	ENTER("nvmlDeviceGetName", handle)
	snprintf(name, size, "%s", d->name);
	return OK;
}

int nvmlDeviceGetMemoryInfo(void *handle, unsigned long long memory[3]) {
	ENTER("nvmlDeviceGetMemoryInfo", handle)
	memory[0] = d->total, memory[1] = d->total - d->used, memory[2] = d->used;
	return OK;
}

typedef struct {
	unsigned pid;
	unsigned long long used;
#ifndef OLD
	unsigned gpu_instance, compute_instance;
#endif
} info;

static int list(device *d, const char *list, unsigned *n, info *infos) {
	unsigned have = 0, room = *n;
	for (int i = 0; i < d->n; i++)
		if (!strcmp(d->processes[i].list, list)) {
			if (have < room) {
				memset(&infos[have], 0, sizeof *infos);
				infos[have].pid = d->processes[i].pid;
				infos[have].used = d->processes[i].used;
			}
			have++;
		}
	*n = have;
	return have > room ? INSUFFICIENT_SIZE : OK;
}

#ifdef OLD
int nvmlDeviceGetComputeRunningProcesses(void *handle, unsigned *n, info *infos) {
	ENTER("nvmlDeviceGetComputeRunningProcesses", handle)
	return list(d, "compute", n, infos);
}
#else
int nvmlDeviceGetComputeRunningProcesses_v3(void *handle, unsigned *n, info *infos) {
	ENTER("nvmlDeviceGetComputeRunningProcesses", handle)
	return list(d, "compute", n, infos);
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(void *handle, unsigned *n, info *infos) {
	ENTER("nvmlDeviceGetGraphicsRunningProcesses", handle)
	return d->parent < 0 ? list(d, "graphics", n, infos) : NOT_SUPPORTED;
}

int nvmlDeviceGetMPSComputeRunningProcesses_v3(void *handle, unsigned *n, info *infos) {
	ENTER("nvmlDeviceGetMPSComputeRunningProcesses", handle)
	return list(d, "mps", n, infos);
}

int nvmlDeviceGetMigMode(void *handle, unsigned *current, unsigned *pending) {
	ENTER("nvmlDeviceGetMigMode", handle)
	void *slice;
	*current = *pending = pick((long)handle - 1, 0, &slice) == OK;
	return OK;
}

int nvmlDeviceGetMaxMigDeviceCount(void *handle, unsigned *n) {
	ENTER("nvmlDeviceGetMaxMigDeviceCount", handle)
	*n = 7;
	return OK;
}

int nvmlDeviceGetMigDeviceHandleByIndex(void *handle, unsigned index, void **slice) {
	ENTER("nvmlDeviceGetMigDeviceHandleByIndex", handle)
	return pick((long)handle - 1, index, slice);
}
#endif
#endif
