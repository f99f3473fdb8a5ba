package mds_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/marketdatastore/mds"
)

// TestKindsPage: the tables of docs/kinds.md are those of the schemas.
func TestKindsPage(t *testing.T) {
	page, err := os.ReadFile("docs/kinds.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		columnTable(mds.SchemaOf[mds.Bar]()), columnTable(mds.SchemaOf[mds.OptionSnap]()),
		columnTable(mds.SchemaOf[mds.Fundamentals]()), columnTable(mds.SchemaOf[mds.News]()),
	} {
		if !strings.Contains(string(page), want) {
			t.Errorf("docs/kinds.md lacks the table\n%s", want)
		}
	}
}

// columnTable describes a kind's columns as the page does.
func columnTable[R any](schema mds.Schema[R]) string {
	var b strings.Builder
	b.WriteString("| column | | what | also read as |\n|---|---|---|---|\n")
	for i := range schema.Columns {
		c := &schema.Columns[i]
		role := map[mds.Role]string{mds.Identity: "key", mds.Key: "key", mds.Revision: "key", mds.Time: "key", mds.Value: "optional"}[c.Role]
		switch {
		case c.Role == mds.Time && schema.TimeIsValue, c.Role == mds.Value && !c.Optional():
			role = "required"
		case c.Derived:
			role = "key, derived"
		case c.Default != "":
			role = "key, else `" + c.Default + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", c.Name, role, c.Doc, strings.Join(c.Aliases, ", "))
	}
	return b.String()
}
