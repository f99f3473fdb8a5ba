package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/codec"
	"github.com/marketdatastore/mds/internal/export"
	"github.com/marketdatastore/mds/internal/jobs"
	"github.com/marketdatastore/mds/internal/selection"
)

// exportParams are those of an export.
type exportParams struct {
	// Out is a file or, with a template, a folder, below the tenant's in the folder for exports.
	Out string `json:"out"`
	// Template and Format are those of mds export.
	Template string `json:"template"`
	Format   string `json:"format"`
	// Where are the values of columns, such as timeframe, that records are picked by.
	Where map[string][]string `json:"where"`
}

// exporting reads what an export is to do, and refuses what it cannot.
func (k *service[R]) exporting(job *mds.Job) (e *export.Export[R], out string, err error) {
	var p exportParams
	if err := readParams(job, &p); err != nil {
		return nil, "", err
	}
	out = path.Clean(p.Out)
	for _, at := range []struct{ name, text string }{{"out", out}, {"template", path.Join(out, p.Template)}} {
		if p.Out != "" && (!fs.ValidPath(at.text) || strings.ContainsFunc(at.text, unicode.IsControl)) {
			return nil, "", fmt.Errorf("params: %s: it leads out of the folder that this server writes to: write a path in it, such as backup/bars.csv.gz", at.name)
		}
	}
	if p.Out == "" || out == "." && p.Template == "" {
		return nil, "", errors.New("params: out: name a file, such as backup/bars.csv.gz, or with a template a folder")
	}
	e = &export.Export[R]{Source: k.table, Name: out, Template: p.Template, Format: p.Format}
	if err := e.Check(); err != nil {
		return nil, "", fmt.Errorf("params: %w", err)
	}
	if e.Selection, err = k.picked(job, p.Where); err != nil {
		return nil, "", err
	}
	return e, out, nil
}

// picked are the records that a job is about.
func (k *service[R]) picked(job *mds.Job, where map[string][]string) (sel mds.Selection, err error) {
	var known []string
	for _, c := range selection.Columns(&k.schema) {
		if c != k.schema.SymbolColumn() { // the job says them
			known = append(known, c.Name)
		}
	}
	picks := make(map[string][]string)
	for column, values := range where {
		if !slices.Contains(known, column) {
			return sel, fmt.Errorf("params: where: %s are not picked by %q: use %s, or the symbols of the job", k.schema.Kind, column, strings.Join(known, ", "))
		}
		picks[column] = values
	}
	if job.Vendor != "" {
		if len(picks["vendor"]) > 0 {
			return sel, errors.New("params: where: the job says the vendor")
		}
		picks["vendor"] = []string{job.Vendor}
	}
	if sel, err = selection.Parse(&k.schema, selection.Texts{Symbols: job.Symbols, Picks: picks}); err != nil {
		return sel, err
	}
	sel.Start, sel.End = job.Start, job.End
	return sel, nil
}

// exported is a file of an export.
type exported[R mds.Record[R]] struct {
	*export.Export[R] // of its tenant
	file              export.File
	// part is done when the file is there, on this machine: the others write their own.
	part string
}

// export writes files into the folder of each tenant that a job is about.
func (k *service[R]) export(ctx context.Context, run *jobs.Run) error {
	job := run.Job()
	if err := os.MkdirAll(k.cfg.Jobs.Exports, 0o750); err != nil {
		return export.FileError("the folder for exports", err)
	}
	root, err := os.OpenRoot(k.cfg.Jobs.Exports)
	if err != nil {
		return export.FileError("the folder for exports", err)
	}
	defer root.Close() //nolint:errcheck // what is in it is closed
	todo, err := k.exports(ctx, run, root)
	if err != nil {
		return err
	}
	run.Left(len(todo))
	for _, x := range todo {
		part := mds.JobPart{Name: x.part}
		if part.Written, err = x.write(ctx, root, &job, func(n int64) { run.Progress(n, 0, x.file.Name) }); err != nil {
			return err
		}
		if err := run.PartDone(ctx, part); err != nil {
			return err
		}
	}
	return nil
}

// exports are the files that are not written.
func (k *service[R]) exports(ctx context.Context, run *jobs.Run, root *os.Root) (todo []exported[R], err error) {
	job := run.Job()
	e, out, err := k.exporting(&job)
	if err != nil {
		return nil, err
	}
	tenants, err := k.tenantsOf(ctx, run)
	if err != nil {
		return nil, err
	}
	machine, _, _ := strings.Cut(job.Worker, "/")
	for _, tenant := range tenants {
		of := *e
		of.Tenant = tenant
		files, err := of.Files(ctx)
		if err != nil && !errors.Is(err, mds.ErrNoStore) {
			return nil, err
		}
		for _, f := range files {
			if e.Template != "" {
				f.Name = path.Join(out, f.Name)
			}
			f.Name = path.Join(tenant.Slug, f.Name)
			x := exported[R]{Export: &of, file: f, part: f.Name + " on " + machine}
			if len(x.part) > mds.MaxJobPart || !utf8.ValidString(x.part) {
				return nil, fmt.Errorf("the name %q is not at most %d bytes of UTF-8: write a shorter path, or a shorter template", f.Name, mds.MaxJobPart-len(x.part)+len(f.Name))
			}
			if _, err := root.Lstat(f.Name); err != nil || !run.Done(x.part) {
				todo = append(todo, x)
			}
		}
	}
	return todo, nil
}

// write writes the file. What an attempt before left of it is removed.
func (x *exported[R]) write(ctx context.Context, root *os.Root, job *mds.Job, each func(n int64)) (n int64, err error) {
	name := x.file.Name
	by := func(attempt int) string { return fmt.Sprintf("job-%s-%d", job.ID, attempt) }
	for attempt := 1; attempt < job.Attempt && err == nil; attempt++ {
		err = codec.Discard(root, name, by(attempt))
	}
	if err == nil {
		err = root.MkdirAll(path.Dir(name), 0o750)
	}
	if err != nil {
		return 0, export.FileError(name, err)
	}
	out, err := codec.CreateIn(root, name, by(job.Attempt))
	if err != nil {
		return 0, export.FileError(name, err)
	}
	return x.Write(ctx, out, &x.file, each)
}
