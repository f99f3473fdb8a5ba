package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"

	"github.com/spf13/cobra"

	"github.com/marketdatastore/mds/codec"
	"github.com/marketdatastore/mds/internal/deadletter"
	files "github.com/marketdatastore/mds/internal/export"
)

func (a *app) dlqExportCommand(f *dlqFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "export OUT [ID…]",
		Short: "Write dead letters with their records as NDJSON",
		Long: `Write dead letters with their records to the file OUT (- is standard output), one JSON
object a line; .gz or .zst at the end of the name compresses. They stay where they are.

Values are as JSON has them. What it cannot hold has a form of its own, such as "NaN"
for a number and {"quoted":"\"caf\\xe9\""} for text that is not UTF-8.`,
		Example: "  mds dlq export letters.ndjson.gz --kind bars\n  mds dlq export - --code invalid | jq -r .reason | sort | uniq -c",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 || args[0] == "" {
				return usagef("%s needs a file to write, or - for standard output", cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			filter, err := a.letterFilter(cmd, f, args[1:])
			if err != nil {
				return err
			}
			if f.atServer {
				return a.throughLetters(cmd, filter, func(letters iter.Seq2[deadletter.Letter, error]) error {
					return a.writeLetters(letters, args[0])
				})
			}
			dir, err := a.deadLetters(f.dir)
			if err != nil {
				return err
			}
			return a.exportLetters(cmd.Context(), dir, filter, args[0])
		},
	}
	f.register(cmd)
	f.registerServer(cmd)
	return cmd
}

func (a *app) exportLetters(ctx context.Context, dir deadletter.Dir, filter deadletter.Filter, name string) error {
	if _, err := os.Stat(dir.Path); errors.Is(err, os.ErrNotExist) {
		return a.sumUp(dir, filter, nil)
	}
	if err := a.writeLetters(a.readLetters(ctx, dir, filter), name); err != nil {
		return err
	}
	return a.warnOfQuarantine(dir)
}

// writeLetters writes letters as NDJSON to a file, or to standard output.
func (a *app) writeLetters(letters iter.Seq2[deadletter.Letter, error], name string) error {
	var n int64
	write := func(out interface{ Write([]byte) (int, error) }) error {
		var line []byte
		for letter, err := range letters {
			if err != nil {
				return err
			}
			line = append(letter.AppendJSON(line[:0]), '\n')
			if _, err := out.Write(line); err != nil {
				return err
			}
			n++
		}
		return nil
	}
	if name == "-" {
		return write(a.stdout)
	}
	out, err := codec.Create(name)
	if err != nil {
		return files.FileError(name, err)
	}
	err = write(out)
	complete := err == nil
	if closeErr := out.Close(complete); complete && closeErr != nil {
		err = closeErr
	}
	if err != nil {
		return files.FileError(name, err)
	}
	fmt.Fprintf(a.stdout, "%s to %s\n", plural(n, "letter"), name)
	return nil
}
