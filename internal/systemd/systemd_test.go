package systemd_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/marketdatastore/mds/internal/systemd"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// manager is the other side of a socket.
func manager(t *testing.T, path string) *net.UnixConn {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// told is the next that is told.
func told(t *testing.T, conn *net.UnixConn) string {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	datagram := make([]byte, 4096)
	n, err := conn.Read(datagram)
	if err != nil {
		t.Fatal(err)
	}
	return string(datagram[:n])
}

func connect(t *testing.T, cfg systemd.Config) *systemd.Manager {
	t.Helper()
	cfg.Logger = slog.New(slog.DiscardHandler)
	m, err := systemd.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestTell(t *testing.T) {
	for name, path := range map[string]string{
		"a path":   filepath.Join(t.TempDir(), "notify"),
		"abstract": "@mds-test-" + strconv.Itoa(os.Getpid()),
	} {
		t.Run(name, func(t *testing.T) {
			there := manager(t, path)
			m := connect(t, systemd.Config{Socket: path})
			m.Tell(t.Context(), systemd.Ready)
			m.Tell(t.Context(), systemd.Stopping)
			for _, want := range []string{"READY=1", "STOPPING=1"} {
				if got := told(t, there); got != want {
					t.Errorf("it is told %q, want %q", got, want)
				}
			}
		})
	}
}

// TestWatch says that the process is well, and nothing while it hangs.
func TestWatch(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	there := manager(t, path)
	m := connect(t, systemd.Config{Socket: path, WatchdogUSec: "40000", WatchdogPID: strconv.Itoa(os.Getpid())})
	ctx, cancel := context.WithCancel(t.Context())
	calls, hangs, goOn, ended := 0, make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		m.Watch(ctx, func() {
			if calls++; calls == 4 {
				close(hangs)
				<-goOn
			}
		})
	}()
	<-hangs
	m.Tell(t.Context(), "X=1") // whatever the watch told before it hung came before
	var all []string
	for len(all) == 0 || all[len(all)-1] != "X=1" {
		all = append(all, told(t, there))
	}
	if got := strings.Join(all, " "); got != "WATCHDOG=1 WATCHDOG=1 WATCHDOG=1 X=1" {
		t.Errorf("until it hangs it is told %s", got)
	}
	close(goOn)
	if got := told(t, there); got != "WATCHDOG=1" {
		t.Errorf("afterwards it is told %q", got)
	}
	cancel()
	<-ended
}

// TestWatchRate looks twice in the time for which the process may be silent.
func TestWatchRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := connect(t, systemd.Config{Socket: "/nowhere/notify", WatchdogUSec: "30000000"})
		ctx, cancel := context.WithTimeout(t.Context(), 59*time.Second)
		defer cancel()
		begun := time.Now()
		var at []time.Duration
		m.Watch(ctx, func() { at = append(at, time.Since(begun)) })
		if want := []time.Duration{0, 15 * time.Second, 30 * time.Second, 45 * time.Second}; !slices.Equal(at, want) {
			t.Errorf("it looks at %v, want %v", at, want)
		}
	})
}

// TestNobody tells nothing where nobody asks for it, or another process is asked.
func TestNobody(t *testing.T) {
	m := connect(t, systemd.Config{WatchdogUSec: "1"})
	m.Tell(t.Context(), systemd.Ready)
	m.Watch(t.Context(), func() { t.Error("it is watched") })
	path := filepath.Join(t.TempDir(), "notify")
	_ = manager(t, path)
	m = connect(t, systemd.Config{Socket: path, WatchdogUSec: "1000", WatchdogPID: "1"})
	m.Watch(t.Context(), func() { t.Error("it is watched") })
	m = connect(t, systemd.Config{Socket: path})
	m.Watch(t.Context(), func() { t.Error("it is watched") })
}

func TestRefuses(t *testing.T) {
	const path = "/run/notify"
	for _, tt := range []struct {
		cfg  systemd.Config
		says string
	}{
		{systemd.Config{Socket: "notify"}, `NOTIFY_SOCKET is "notify": it is neither a path nor an abstract socket`},
		{systemd.Config{Socket: "vsock:2:1"}, `NOTIFY_SOCKET is "vsock:2:1"`},
		{systemd.Config{Socket: path, WatchdogUSec: "30s"}, `WATCHDOG_USEC is "30s": it is no number of microseconds`},
		{systemd.Config{Socket: path, WatchdogUSec: "0"}, `WATCHDOG_USEC is "0"`},
		{systemd.Config{Socket: path, WatchdogUSec: "9223372036854775807"}, "WATCHDOG_USEC is"},
	} {
		if m, err := systemd.New(tt.cfg); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%+v: %v, %v", tt.cfg, m, err)
		}
	}
}

// TestManagerGone goes on without one, and says so.
func TestManagerGone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	there := manager(t, path)
	var log bytes.Buffer
	m, err := systemd.New(systemd.Config{Socket: path, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	_ = there.Close()
	m.Tell(t.Context(), systemd.Ready)
	if !strings.Contains(log.String(), `msg="the service manager cannot be told" what="READY=1"`) {
		t.Errorf("the log says %s", log.String())
	}
}
