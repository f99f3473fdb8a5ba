package config

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// Sources are where settings come from: flags go before the environment, that before the
// file, and what none of them says is as the table has it.
type Sources struct {
	// File is the path of the file; "" is none.
	File string
	// Environment are the variables that are set, by their names.
	Environment map[string]string
	// Flags are those that were given, as they were, by the keys of the settings.
	Flags map[string]string
	// Redact is a DSN without its password. Nil shows nothing of one.
	Redact func(dsn string) string
}

// Fault is one thing that is wrong with the settings.
type Fault struct {
	// Where it is in the file, as path:line; "" for what is not there.
	Where string
	// Says what is wrong, and what to do.
	Says string
}

func (f Fault) String() string {
	if f.Where == "" {
		return f.Says
	}
	return f.Where + ": " + f.Says
}

// FaultsError is all that is wrong with the settings.
type FaultsError struct{ Faults []Fault }

func (e *FaultsError) Error() string {
	sentences := make([]string, len(e.Faults))
	for i, f := range e.Faults {
		sentences[i] = f.String()
	}
	return strings.Join(sentences, "; ")
}

// origin is where a value comes from.
type origin int

const (
	fromDefault origin = iota
	fromFile
	fromEnvironment
	fromFlag
)

// value is what a setting is.
type value struct {
	origin origin
	text   string
	line   int // in the file
}

// Load reads the settings. Its error is a [*FaultsError], which has every fault: those of
// all of the file, and those of the variables and flags that would be in force.
func Load(src Sources) (*Settings, error) {
	s := &Settings{file: src.File, redact: src.Redact}
	if s.redact == nil {
		s.redact = func(string) string { return "…" }
	}
	s.table = table(s)
	s.values = make([]value, len(s.table))
	var d document
	if src.File != "" {
		data, err := s.open(src.File)
		if err != nil {
			return nil, err
		}
		d = read(src.File, data, s.table)
	}
	faults := d.faults
	for i := range s.table {
		row := &s.table[i]
		if e, ok := d.entries[row.Key]; ok {
			if f := s.take(i, value{fromFile, e.text, e.line}, e.wrong); f != nil {
				faults = append(faults, *f)
			}
		}
		over := value{}
		if text, ok := src.Flags[row.Key]; ok {
			over = value{origin: fromFlag, text: text}
		} else if text := src.Environment[row.Env]; text != "" {
			over = value{origin: fromEnvironment, text: text}
		}
		if over.origin != fromDefault {
			if f := s.take(i, over, ""); f != nil {
				faults = append(faults, *f)
			}
		}
		if s.values[i].origin == fromDefault && row.Default != "" {
			s.values[i].text = row.Default
			if !row.left {
				_ = row.form.set(row.Default) // which a test has looked at
			}
		}
	}
	if len(faults) > 0 {
		slices.SortStableFunc(faults, func(a, b Fault) int { return lineOf(a) - lineOf(b) })
		return nil, &FaultsError{faults}
	}
	s.warnOfReaders(&d)
	return s, nil
}

func lineOf(f Fault) int {
	line, _ := strconv.Atoi(f.Where[strings.LastIndexByte(f.Where, ':')+1:])
	return line
}

// open reads the file.
func (s *Settings) open(path string) ([]byte, error) {
	data, err := os.ReadFile(path) //nolint:gosec // the file that the user names
	var reason *fs.PathError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, &FaultsError{[]Fault{{path, "there is no such configuration file; mds config print --defaults writes one to start from"}}}
	case errors.As(err, &reason):
		return nil, &FaultsError{[]Fault{{path, "the configuration file cannot be read: " + reason.Err.Error()}}}
	case err != nil:
		return nil, &FaultsError{[]Fault{{path, "the configuration file cannot be read: " + err.Error()}}}
	case len(data) > 1<<20:
		return nil, &FaultsError{[]Fault{{path, "the configuration file is larger than 1 MiB: is it another one?"}}}
	}
	return data, nil
}

// take puts a value in force, or says why it cannot be.
func (s *Settings) take(i int, v value, wrong string) *Fault {
	row := &s.table[i]
	s.values[i] = v
	if v.text == "" && wrong == "" {
		wrong = "empty"
	}
	if wrong == "" && row.form.set(v.text) {
		return nil
	}
	f := &Fault{Says: s.is(row, v, wrong) + ": " + row.form.write}
	if v.origin == fromFile {
		f.Where = s.file + ":" + strconv.Itoa(v.line)
	}
	return f
}

// is begins a sentence about a setting with where it was set, and to what.
func (s *Settings) is(row *Setting, v value, wrong string) string {
	shown := strconv.Quote(v.text)
	if row.Secret {
		shown = strconv.Quote(s.shown(row, v.text))
	}
	if wrong != "" {
		shown = wrong
	}
	switch {
	case v.origin == fromFlag && wrong != "":
		return "--" + row.Flag + " is " + shown
	case v.origin == fromFlag:
		return "--" + row.Flag + " " + shown
	case v.origin == fromEnvironment:
		return row.Env + " is " + shown
	case row.form.shape == shapeNumber && wrong == "":
		shown = v.text
	}
	return row.Key + " is " + shown
}

// Is begins a sentence about a setting with where it was set, and to what, such as
// MDS_POOL_MAX is "1", or mds.toml:3: store.pool_max is 1.
func (s *Settings) Is(key string) string {
	i := s.index(key)
	v := s.values[i]
	is := s.is(&s.table[i], v, "")
	if v.origin == fromFile {
		return s.file + ":" + strconv.Itoa(v.line) + ": " + is
	}
	return is
}

// shown is what may be shown of a secret setting.
func (s *Settings) shown(row *Setting, text string) string {
	if row.hidden {
		return "…"
	}
	return s.redact(text)
}

func (s *Settings) index(key string) int {
	return slices.IndexFunc(s.table, func(row Setting) bool { return row.Key == key })
}

// IsSet reports that a setting is not left to its default.
func (s *Settings) IsSet(key string) bool { return s.values[s.index(key)].origin != fromDefault }

// Nearer is more than 0 where one setting was set nearer to the command than another: by a
// flag, in the environment, in the file, nowhere. It is 0 where both were in the same place.
func (s *Settings) Nearer(key, other string) int {
	return int(s.values[s.index(key)].origin - s.values[s.index(other)].origin)
}

// Name is a setting as it was set: its flag, its variable, or its key.
func (s *Settings) Name(key string) string {
	i := s.index(key)
	switch s.values[i].origin {
	case fromFlag:
		return "--" + s.table[i].Flag
	case fromEnvironment:
		return s.table[i].Env
	}
	return key
}

// Text is a setting as it was set, or its default; "" where that is left.
func (s *Settings) Text(key string) string {
	i := s.index(key)
	if s.values[i].origin == fromDefault && s.table[i].left {
		return ""
	}
	return s.values[i].text
}

// Verify looks at what a server needs of the settings together: a certificate and its key
// are there and belong together. Its error is a [*FaultsError].
func (s *Settings) Verify() error {
	var faults []Fault
	refuse := func(key, format string, args ...any) {
		faults = append(faults, Fault{Says: s.Is(key) + ": " + fmt.Sprintf(format, args...)})
	}
	const together = "--tls-cert and --tls-key belong together"
	switch cert, key := s.Serve.TLSCert, s.Serve.TLSKey; {
	case cert != "" && key == "":
		refuse("serve.tls_cert", "serve.tls_key is not set; %s", together)
	case cert == "" && key != "":
		refuse("serve.tls_key", "serve.tls_cert is not set; %s", together)
	case cert != "":
		if _, err := tls.LoadX509KeyPair(cert, key); err != nil {
			refuse("serve.tls_cert", "with serve.tls_key %q it does not make a pair: %v; name PEM files of one certificate and its key", key, err)
		}
	}
	if c := s.Coordinator; c.BatchSize > 0 && c.BatchMax > 0 && c.BatchMax < c.BatchSize {
		refuse("coordinator.batch_max", "it is less than coordinator.batch_size, which is %d; write as many or more", c.BatchSize)
	}
	if len(faults) > 0 {
		return &FaultsError{faults}
	}
	return nil
}

// warnOfReaders warns of a file with a password in it that others may read.
func (s *Settings) warnOfReaders(d *document) {
	stat, err := os.Stat(s.file)
	if s.file == "" || err != nil || runtime.GOOS == "windows" || stat.Mode().Perm()&0o077 == 0 {
		return
	}
	for i := range s.table {
		row := &s.table[i]
		if e, ok := d.entries[row.Key]; ok && row.Secret && s.shown(row, e.text) != e.text {
			s.Warnings = append(s.Warnings, fmt.Sprintf("%s:%d: %s holds a secret, and others than the file's owner may read it: chmod 600 %[1]s", s.file, e.line, row.Key))
			return
		}
	}
}

// Unknown are the variables that look like settings and are none, each with a sentence.
func Unknown(environment map[string]string, others ...string) []string {
	var names, sentences []string
	for _, row := range List() {
		names = append(names, row.Env)
	}
	known := append(append(slices.Clone(names), FileEnv), others...)
	for name := range environment {
		if slices.Contains(known, name) || strings.HasPrefix(name, "MDS_TEST_") {
			continue
		}
		hint := ""
		if like := nearest(name, names); like != "" {
			hint = "; did you mean " + like + "?"
		}
		sentences = append(sentences, "there is no setting "+name+hint)
	}
	slices.Sort(sentences)
	return sentences
}
