// Package systemd tells the service manager how a process is, as sd_notify(3) has it.
package systemd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// What is told.
const (
	Ready    = "READY=1"
	Stopping = "STOPPING=1"
	watchdog = "WATCHDOG=1"
)

// Config is what the service manager says in the environment.
type Config struct {
	// Socket is NOTIFY_SOCKET, the path of a socket, with @ first an abstract one. ""
	// where nobody wants to be told.
	Socket string
	// WatchdogUSec and WatchdogPID are WATCHDOG_USEC and WATCHDOG_PID: how long the
	// process may be silent, in microseconds, and which one.
	WatchdogUSec, WatchdogPID string
	// Logger is told of what cannot be told. Required.
	Logger *slog.Logger
}

// Manager is who started the process. The zero value is nobody, who is told nothing.
type Manager struct {
	socket string
	logger *slog.Logger
	silent time.Duration // for how long the process may be; 0 for ever
}

// New returns who started the process.
func New(cfg Config) (*Manager, error) {
	if cfg.Socket == "" {
		return &Manager{}, nil
	}
	if !strings.HasPrefix(cfg.Socket, "/") && !strings.HasPrefix(cfg.Socket, "@") {
		return nil, fmt.Errorf("NOTIFY_SOCKET is %q: it is neither a path nor an abstract socket", cfg.Socket)
	}
	m := &Manager{socket: cfg.Socket, logger: cfg.Logger}
	if cfg.WatchdogUSec != "" && (cfg.WatchdogPID == "" || cfg.WatchdogPID == strconv.Itoa(os.Getpid())) {
		microseconds, err := strconv.ParseInt(cfg.WatchdogUSec, 10, 64)
		if err != nil || microseconds <= 0 || microseconds > math.MaxInt64/int64(time.Microsecond) {
			return nil, fmt.Errorf("WATCHDOG_USEC is %q: it is no number of microseconds", cfg.WatchdogUSec)
		}
		m.silent = time.Duration(microseconds) * time.Microsecond
	}
	return m, nil
}

// Tell tells something. What cannot be told is logged: the process goes on without.
func (m *Manager) Tell(ctx context.Context, what string) {
	if m.socket == "" {
		return
	}
	if err := m.send(ctx, what); err != nil {
		m.logger.Warn("the service manager cannot be told", "what", what, "error", err)
	}
}

func (m *Manager) send(ctx context.Context, what string) (err error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unixgram", m.socket)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if err := conn.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	_, err = conn.Write([]byte(what))
	return err
}

// patience is how long a service manager may keep the process waiting that does not read.
const patience = time.Second

// Watch says that the process is well, twice in the time that it may be silent, until ctx
// ends. It is well when the function returns: one that hangs has it be restarted.
func (m *Manager) Watch(ctx context.Context, well func()) {
	if m.silent == 0 {
		return
	}
	beat := time.NewTicker(max(m.silent/2, time.Millisecond))
	defer beat.Stop()
	for {
		well()
		m.Tell(context.WithoutCancel(ctx), watchdog)
		select {
		case <-beat.C:
		case <-ctx.Done():
			return
		}
	}
}
