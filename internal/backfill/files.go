package backfill

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"unicode/utf8"

	"github.com/marketdatastore/mds"
)

// mostPatterns bounds those of a job.
const mostPatterns = 100

// mostEntries bounds how many entries of folders are looked at for a job. Tests set it.
var mostEntries = 500_000

// files are the parts of files, in order of their names.
func (s *Spec) files(ctx context.Context, rules *Rules) ([]Part, error) {
	if rules.Dir == "" {
		return nil, &RuleError{"files: this server reads none: its setting jobs.dir names the folder that they may be in"}
	}
	patterns := slices.Compact(slices.Sorted(slices.Values(s.Files)))
	if len(patterns) > mostPatterns {
		return nil, fmt.Errorf("files: these are %d patterns, and a job has at most %d: make several jobs", len(patterns), mostPatterns)
	}
	root, err := os.OpenRoot(rules.Dir)
	if err != nil {
		return nil, fmt.Errorf("files: the folder of jobs.dir cannot be opened: %w", inner(err))
	}
	defer root.Close() //nolint:errcheck // it is only read
	look := search{root: root, found: make(map[string]bool)}
	for _, pattern := range patterns {
		clean, err := below(rules.Dir, pattern)
		if err != nil {
			return nil, err
		}
		before := look.matches
		if err := look.match(ctx, ".", strings.Split(clean, "/")); err != nil {
			return nil, fmt.Errorf("files: %w", err)
		}
		if look.matches == before {
			return nil, fmt.Errorf("files: there is no %s in the folder that this server reads", pattern)
		}
	}
	parts := make([]Part, 0, len(look.found))
	for name := range look.found {
		parts = append(parts, Part{Name: name, path: name})
	}
	slices.SortFunc(parts, func(a, b Part) int { return strings.Compare(a.Name, b.Name) })
	return parts, nil
}

// below is a pattern as a path in the folder.
func below(dir, pattern string) (string, error) {
	clean := filepath.ToSlash(filepath.Clean(pattern))
	if filepath.IsAbs(pattern) {
		rel, err := filepath.Rel(dir, pattern)
		if err != nil {
			rel = ".."
		}
		clean = filepath.ToSlash(rel)
	}
	if !fs.ValidPath(clean) {
		return "", fmt.Errorf("files: %q is not below the folder that this server reads", pattern)
	}
	if _, err := path.Match(clean, ""); err != nil {
		return "", fmt.Errorf("files: %q is no pattern: %w", pattern, err)
	}
	return clean, nil
}

// search looks for the files of patterns.
type search struct {
	root    *os.Root
	found   map[string]bool
	matches int // with those that were found before
	looked  int // entries of folders
}

// match finds what there is below dir under the segments of a pattern. A pattern leaves out what is
// no regular file; a name does not.
func (s *search) match(ctx context.Context, dir string, segments []string) error {
	for i, segment := range segments {
		if strings.ContainsAny(segment, `*?[\`) {
			return s.each(ctx, path.Join(append([]string{dir}, segments[:i]...)...), segment, segments[i+1:])
		}
	}
	name := path.Join(append([]string{dir}, segments...)...)
	switch stat, err := s.root.Stat(name); {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return nil
	case err != nil:
		return fmt.Errorf("%q: %w", name, inner(err))
	case !stat.Mode().IsRegular():
		return fmt.Errorf("%q is no regular file", name)
	}
	return s.add(name)
}

// each goes on with the entries of a folder that a segment matches.
func (s *search) each(ctx context.Context, dir, segment string, rest []string) error {
	stat, err := s.root.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || err == nil && !stat.IsDir() {
		return nil
	}
	var folder *os.File
	if err == nil {
		folder, err = s.root.OpenFile(dir, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	}
	if err != nil {
		return fmt.Errorf("%q: %w", dir, inner(err))
	}
	defer folder.Close() //nolint:errcheck // it is only read
	for {
		entries, err := folder.ReadDir(1_000)
		if s.looked += len(entries); s.looked > mostEntries {
			return fmt.Errorf("there are more than %d entries to look at: name folders, or files with fewer beside them", mostEntries)
		}
		for _, e := range entries {
			if ok, _ := path.Match(segment, e.Name()); !ok { // it is a pattern
				continue
			}
			if err := s.entry(ctx, path.Join(dir, e.Name()), rest); err != nil {
				return err
			}
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("%q: %w", dir, inner(err))
		}
	}
}

// entry goes on with one that a pattern has led to.
func (s *search) entry(ctx context.Context, name string, rest []string) error {
	if len(rest) > 0 {
		return s.match(ctx, name, rest)
	}
	stat, err := s.root.Stat(name)
	if err != nil {
		return fmt.Errorf("%q: %w", name, inner(err))
	}
	if !stat.Mode().IsRegular() {
		return nil
	}
	return s.add(name)
}

func (s *search) add(name string) error {
	if !utf8.ValidString(name) || len(name) > mds.MaxJobPart || strings.ContainsRune(name, 0) {
		return fmt.Errorf("the name %q is not at most %d bytes of UTF-8: name the file otherwise", name, mds.MaxJobPart)
	}
	s.matches++
	s.found[name] = true
	if len(s.found) > mostParts {
		return fmt.Errorf("these are more than %d files: make several jobs", mostParts)
	}
	return nil
}

// openRegular opens a regular file; of what is none, such as a pipe that nobody writes to, it does
// not wait for anything.
func openRegular(root *os.Root, name string) (*os.File, error) {
	f, err := root.OpenFile(filepath.FromSlash(name), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if stat, err := f.Stat(); err != nil || !stat.Mode().IsRegular() {
		return nil, errors.Join(errors.New("it is no regular file"), err, f.Close())
	}
	return f, nil
}
