package server_test

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/marketdatastore/mds/internal/server"
)

// screenshots is a folder in which TestReferencePage leaves what it saw.
var screenshots = flag.String("screenshots", "", "a folder for pictures of the reference page")

// browser is a Chromium that is driven over its debugging pipe.
type browser struct {
	t       *testing.T
	in      *os.File
	out     *bufio.Reader
	session string
	next    int
	events  []event
}

type event struct {
	Method string
	Params struct {
		Request struct{ URL string }
		Entry   struct{ Level, Text string }
	}
}

// newBrowser opens one, with an empty page. Where there is none the test is skipped, in CI
// it fails.
func newBrowser(t *testing.T) *browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("there is no Chromium; scripts/deps-test installs it:", err)
	}
	commands, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, answers, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	cmd := exec.Command(path, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-crash-reporter", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--remote-debugging-pipe", "--user-data-dir="+filepath.Join(home, "profile"), "about:blank")
	cmd.Env = append(os.Environ(), "HOME="+home)
	cmd.ExtraFiles = []*os.File{commands, answers} // 3 and 4
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, _ = commands.Close(), answers.Close()
	b := &browser{t: t, in: in, out: bufio.NewReader(out)}
	t.Cleanup(func() {
		b.session = ""
		b.call("Browser.close", nil, nil)
		_, _ = in.Close(), out.Close()
		_ = cmd.Wait() // it was told to end
	})
	var target struct{ TargetID, SessionID string }
	b.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	b.call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &target)
	b.session = target.SessionID
	for _, domain := range []string{"Page", "Network", "Log", "Runtime"} {
		b.call(domain+".enable", nil, nil)
	}
	return b
}

// call has the browser do something, and keeps what it tells meanwhile.
func (b *browser) call(method string, params, result any) {
	b.t.Helper()
	b.next++
	if params == nil {
		params = map[string]any{}
	}
	request := map[string]any{"id": b.next, "method": method, "params": params}
	if b.session != "" {
		request["sessionId"] = b.session
	}
	text, err := json.Marshal(request)
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.in.Write(append(text, 0)); err != nil {
		b.t.Fatal(err)
	}
	for {
		text := b.read()
		var answer struct {
			ID     int
			Result json.RawMessage
			Error  *struct{ Message string }
		}
		if err := json.Unmarshal(text, &answer); err != nil {
			b.t.Fatal(err)
		}
		switch {
		case answer.ID != b.next:
			continue
		case answer.Error != nil:
			b.t.Fatalf("%s: %s", method, answer.Error.Message)
		case result != nil:
			if err := json.Unmarshal(answer.Result, result); err != nil {
				b.t.Fatal(err)
			}
		}
		return
	}
}

// read reads a message, and keeps it where it is an event.
func (b *browser) read() []byte {
	b.t.Helper()
	text, err := b.out.ReadBytes(0)
	if err != nil {
		b.t.Fatal("the browser has ended:", err)
	}
	text = text[:len(text)-1]
	var e event
	if err := json.Unmarshal(text, &e); err == nil && e.Method != "" {
		b.events = append(b.events, e)
	}
	return text
}

// open loads a page.
func (b *browser) open(url string) {
	b.t.Helper()
	b.events = nil
	b.call("Page.navigate", map[string]any{"url": url}, nil)
	for i := 0; ; i++ {
		for ; i < len(b.events); i++ {
			if b.events[i].Method == "Page.loadEventFired" {
				return
			}
		}
		b.read()
		i--
	}
}

// eval is the value of an expression in the page.
func (b *browser) eval(expression string, value any) {
	b.t.Helper()
	var result struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails json.RawMessage
	}
	b.call("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true}, &result)
	if result.ExceptionDetails != nil {
		b.t.Fatalf("%s: %s", expression, result.ExceptionDetails)
	}
	if err := json.Unmarshal(result.Result.Value, value); err != nil {
		b.t.Fatal(err)
	}
}

// picture leaves one where it was asked for.
func (b *browser) picture(name string) {
	b.t.Helper()
	if *screenshots == "" {
		return
	}
	var shot struct{ Data string }
	b.call("Page.captureScreenshot", map[string]any{"format": "png"}, &shot)
	png, err := base64.StdEncoding.DecodeString(shot.Data)
	if err == nil {
		err = os.WriteFile(filepath.Join(*screenshots, name+".png"), png, 0o600)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// TestReferencePage looks at the page of all that is served in a browser: wide and narrow,
// light and dark, by keyboard.
func TestReferencePage(t *testing.T) {
	w := serve(t, "duckdb://"+t.TempDir(), server.Config{})
	var document struct {
		Paths map[string]map[string]struct{ OperationID, Summary string }
	}
	if err := json.Unmarshal([]byte(w.get(t, "/openapi.json").body), &document); err != nil {
		t.Fatal(err)
	}
	b := newBrowser(t)
	b.open(w.url + "/")
	operations := 0
	for path, methods := range document.Paths {
		for method, o := range methods {
			operations++
			var shown string
			b.eval(fmt.Sprintf("(document.getElementById(%q)?.querySelector('summary').innerText ?? 'nothing')", o.OperationID), &shown)
			if !strings.Contains(shown, strings.ToUpper(method)) || !strings.Contains(shown, path) || !strings.Contains(shown, o.Summary) {
				t.Errorf("%s %s is shown as %q", method, path, shown)
			}
		}
	}
	if operations < 15 {
		t.Errorf("%d operations", operations)
	}
	for _, tt := range []struct {
		name, scheme string
		width        int
		paper        string
	}{
		{"wide-light", "light", 1200, "rgb(255, 255, 255)"},
		{"narrow-light", "light", 400, "rgb(255, 255, 255)"},
		{"narrow-dark", "dark", 400, "rgb(18, 18, 18)"},
	} {
		b.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": tt.width, "height": 900, "deviceScaleFactor": 1, "mobile": false}, nil)
		b.call("Emulation.setEmulatedMedia", map[string]any{"features": []any{map[string]any{"name": "prefers-color-scheme", "value": tt.scheme}}}, nil)
		var opened int
		b.eval("[...document.querySelectorAll('details')].map(d => d.open = false).length", &opened)
		b.picture(tt.name + "-closed")
		b.eval("[...document.querySelectorAll('details')].map(d => d.open = true).length", &opened)
		var needs int
		b.eval("document.documentElement.scrollWidth", &needs)
		if needs > tt.width {
			t.Errorf("%s: it needs %d pixels of %d", tt.name, needs, tt.width)
		}
		var paper string
		b.eval("(() => { const p = document.createElement('p'); p.style.color = 'Canvas'; document.body.append(p); const c = getComputedStyle(p).color; p.remove(); return c })()", &paper)
		if paper != tt.paper {
			t.Errorf("%s: the page is %s", tt.name, paper)
		}
		b.eval("(document.querySelectorAll('details')[1].scrollIntoView(), 1)", &opened)
		b.picture(tt.name)
	}
	b.byKeyboard()
	for _, e := range b.events {
		switch {
		case e.Method == "Log.entryAdded" && e.Params.Entry.Level == "error", e.Method == "Runtime.exceptionThrown", e.Method == "Runtime.consoleAPICalled":
			t.Errorf("the browser says: %+v", e)
		case e.Method == "Network.requestWillBeSent" && !strings.HasPrefix(e.Params.Request.URL, w.url+"/"):
			t.Errorf("it asks for %s", e.Params.Request.URL)
		}
	}
}

// byKeyboard goes from one to the next with the tabulator, and opens what there is.
func (b *browser) byKeyboard() {
	b.t.Helper()
	var want, reached, open int
	b.eval("[...document.querySelectorAll('details')].map(d => d.open = false).length + document.querySelectorAll('a[href]').length", &want)
	b.eval("(document.activeElement.blur(), window.scrollTo(0, 0), window.reached = new Set(), 0)", &reached)
	press := func(key string, code int) {
		for _, what := range []string{"keyDown", "keyUp"} {
			params := map[string]any{"type": what, "key": key, "code": key, "windowsVirtualKeyCode": code}
			if key == "Enter" && what == "keyDown" {
				params["text"] = "\r"
			}
			b.call("Input.dispatchKeyEvent", params, nil)
		}
	}
	for range want {
		press("Tab", 9)
		b.eval("(window.reached.add(document.activeElement), window.reached.delete(document.body), window.reached.size)", &reached)
	}
	if press("Enter", 13); reached != want {
		b.t.Errorf("by keyboard %d of %d links and headings are reached", reached, want)
	}
	if b.eval("document.querySelectorAll('details[open]').length", &open); open != 1 {
		b.t.Errorf("by keyboard %d headings are opened", open)
	}
}
