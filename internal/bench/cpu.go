package bench

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// cpuTime is the CPU time that this process has taken, or that the whole machine has, which
// servers on it are part of; 0 where the system does not tell.
func cpuTime(machine bool) time.Duration {
	if machine {
		return machineTime()
	}
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// machineTime is the busy time of all processors since the start, of /proc/stat
// (proc_stat(5)): user, nice, system, irq and softirq, in hundredths of a second.
func machineTime() time.Duration {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(text), "\n")
	fields := strings.Fields(line)
	var busy int64
	for _, i := range []int{1, 2, 3, 6, 7} {
		if i < len(fields) {
			n, _ := strconv.ParseInt(fields[i], 10, 64)
			busy += n
		}
	}
	return time.Duration(busy) * 10 * time.Millisecond
}
