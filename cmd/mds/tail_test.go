package main

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/marketdatastore/mds/client"
)

// tailing is a mds tail that runs.
type tailing struct {
	*exec.Cmd
	t           *testing.T
	out, errors *bufio.Scanner
}

func (c *cli) tail(args ...string) *tailing {
	c.t.Helper()
	s := &tailing{t: c.t, Cmd: c.program(append([]string{"tail"}, args...)...)}
	scan := func(pipe io.ReadCloser, err error) *bufio.Scanner {
		if err != nil {
			c.t.Fatal(err)
		}
		return bufio.NewScanner(pipe)
	}
	s.out, s.errors = scan(s.StdoutPipe()), scan(s.StderrPipe())
	if err := s.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		_ = s.Process.Kill() // if it still runs
		_ = s.Wait()
	})
	return s
}

// next is the next line, which has some parts.
func (s *tailing) next(from *bufio.Scanner, parts ...string) {
	s.t.Helper()
	if !from.Scan() {
		s.t.Fatalf("it ends, without %q", parts)
	}
	for _, part := range parts {
		if !strings.Contains(from.Text(), part) {
			s.t.Errorf("%q, without %q", from.Text(), part)
		}
	}
}

// ends waits for its exit status.
func (s *tailing) ends(want int) {
	s.t.Helper()
	for s.out.Scan() {
		s.t.Errorf("it goes on: %s", s.out.Text())
	}
	for s.errors.Scan() {
		s.t.Log(s.errors.Text())
	}
	_ = s.Wait() // the status says it
	if got := s.ProcessState.ExitCode(); got != want {
		s.t.Errorf("exit %d, want %d", got, want)
	}
}

// TestTail follows a server, as each format, and connects again when it was started again.
func TestTail(t *testing.T) {
	c := newCLI(t)
	s := c.serve()
	few := c.tail("bars", "--symbol", "A", "--format", "csv", "-n", "2", "--server", s.url)
	lines := c.tail("bars", "--format", "ndjson", "-n", "3", "--server", s.url)
	table := c.tail("bars", "--vendor", "v", "--server", s.url)
	for _, f := range []*tailing{few, lines, table} {
		f.next(f.errors, "following bars at "+s.url)
	}
	for _, symbol := range []string{"B", "A"} {
		if _, body, err := post(s.url+"/v1/bars", "", symbol, 3); err != nil {
			t.Fatal(body, err)
		}
	}
	few.next(few.out, "vendor,symbol,timeframe,ts,open")
	few.next(few.out, "v,A,1m,2023-11-14T22:13:20Z,,,,1,,,")
	few.next(few.out, "v,A,1m,2023-11-14T22:14:20Z,,,,1,,,")
	few.ends(exitDone)
	for range 3 {
		lines.next(lines.out, `{"vendor":"v","symbol":"B","timeframe":"1m","ts":"2023-11-14T22:1`)
	}
	lines.ends(exitDone)
	table.next(table.out, "vendor  symbol  timeframe  ts (UTC)")
	for _, symbol := range []string{"B", "B", "B", "A", "A", "A"} {
		table.next(table.out, "v       "+symbol+"       1m         2023-11-14 22:1")
	}

	if err := s.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_ = s.Wait()
	table.next(table.errors, "the connection to "+s.url+" is lost (the server does not answer: the server has ended the stream); connecting again")
	s = c.serve("--listen", strings.TrimPrefix(s.url, "http://"))
	table.next(table.errors, "connected again")
	table.next(table.errors, "some records, nobody knows how many, were missed: the server was started again; mds query bars reads them from the store")
	if _, body, err := post(s.url+"/v1/bars", "", "C", 1); err != nil {
		t.Fatal(body, err)
	}
	table.next(table.out, "v       C       1m         2023-11-14 22:13:20")
	if err := table.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	table.ends(exitDone)
}

// TestTailRefuses says what is wrong, and what to do.
func TestTailRefuses(t *testing.T) {
	c := newCLI(t)
	for _, tt := range []struct {
		args []string
		exit int
		want string
	}{
		{[]string{"bars"}, exitUsage, "mds: mds tail bars follows a server, not a store: start one there with mds serve, and name it with --server, such as --server http://127.0.0.1:8080\n"},
		{[]string{"bars", "--server", "http://127.0.0.1:1"}, exitFailed, "mds: no server answers at http://127.0.0.1:1 (connection refused): start one there with mds serve, or name another with --server\n"},
		{[]string{"bars", "--format", "json"}, exitUsage, "mds: --format json is an array, which has an end: use table, csv or ndjson\n"},
		{[]string{"bars", "-n", "0"}, exitUsage, "mds: -n 0: write how many records to show, 1 or more\n"},
		{[]string{"rollups"}, exitUsage, `mds: mds tail: unknown "rollups"; use bars, options, fundamentals or news`},
	} {
		if out := c.run(append([]string{"tail"}, tt.args...)...); out.exit != tt.exit || !strings.HasPrefix(out.stderr, tt.want) {
			t.Errorf("mds tail %q: exit %d, want %d with %q:\n%s", tt.args, out.exit, tt.exit, tt.want, out.stderr)
		}
	}
	for _, tt := range []struct {
		err  error
		want string
	}{
		{&client.Error{Err: errors.New("refused")}, "no server answers at http://127.0.0.1:8080: start one with mds serve, or name one with --server (the server does not answer: refused)"},
		{&client.Error{Problem: client.Problem{Status: 401, Code: "no_key"}}, "the server at http://127.0.0.1:8080 asks for an API key: name it with --server http://127.0.0.1:8080, so that the one in MDS_API_KEY is sent to it"},
	} {
		if got := tailFailed(tt.err, true).Error(); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}
