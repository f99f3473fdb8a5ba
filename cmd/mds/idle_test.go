package main

import (
	"bufio"
	"errors"
	"flag"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// idle is how many connections TestIdle leaves idle: make withstand has 10,000.
var idle = flag.Int("idle", 300, "how many connections TestIdle leaves idle")

// TestIdle has connections that ask for nothing cost others nothing, and little memory; those
// that never sent a byte are closed.
func TestIdle(t *testing.T) {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	if need := uint64(*idle + 300); files.Cur < need { // the program and this process raise it as far as they may
		t.Fatalf("a process may have %d files open and %d are needed: raise the limit with ulimit -n", files.Cur, need)
	}
	c := newCLI(t)
	c.binary = plainProgram(t)
	s := c.serve()
	if status, body, err := post(s.url+"/v1/bars", "", "A", 100); err != nil || status != http.StatusOK {
		t.Fatal(status, body, err)
	}
	alone := askMany(t, s.url)
	before := resident(t, s.Process.Pid, "VmRSS:")
	begun := time.Now()
	var asked, silent []net.Conn
	for i := range *idle {
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
		if err != nil {
			t.Fatalf("after %d connections: %v", i, err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		if i%2 == 1 {
			silent = append(silent, conn)
			continue
		}
		askOn(t, conn)
		asked = append(asked, conn)
	}
	opened := time.Since(begun)
	beside := askMany(t, s.url)
	each := (resident(t, s.Process.Pid, "VmRSS:") - before) / int64(*idle)
	t.Logf("%d connections, half of them silent, opened in %.1f s: %d MB resident, before %d MB, %d KB each; p99 of a query %v, alone %v",
		*idle, opened.Seconds(), resident(t, s.Process.Pid, "VmRSS:")>>20, before>>20, each>>10, beside.Round(time.Microsecond), alone.Round(time.Microsecond))
	if each > 48<<10 {
		t.Errorf("a connection takes %d KB", each>>10)
	}
	if beside > 20*alone && beside > 500*time.Millisecond {
		t.Errorf("p99 of a query is %v, and %v alone", beside, alone)
	}
	for _, conn := range silent {
		_ = conn.SetReadDeadline(begun.Add(opened + 20*time.Second))
		if text, err := io.ReadAll(conn); err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Fatalf("one that sent nothing is not closed: %q, %v", text, err)
		}
	}
	for _, conn := range asked[:100] {
		askOn(t, conn) // it may go on
	}
}

// askOn makes a request on a connection, which stays open.
func askOn(t *testing.T, conn net.Conn) {
	t.Helper()
	if _, err := io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status, err)
	}
}

// askMany asks for bars, four times at once, and returns the 99th percentile of how long an
// answer took.
func askMany(t *testing.T, url string) time.Duration {
	t.Helper()
	const each = 250
	took := make([]time.Duration, 4*each)
	var clients sync.WaitGroup
	for p := range 4 {
		clients.Go(func() {
			for i := range each {
				begun := time.Now()
				resp, err := http.Get(url + "/v1/bars?symbol=A&limit=10")
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
					t.Error(resp.Status, err)
				}
				_ = resp.Body.Close()
				took[p*each+i] = time.Since(begun)
			}
		})
	}
	clients.Wait()
	slices.Sort(took)
	return took[len(took)*99/100]
}
