package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
)

// dashboard is what the tests read of one of Grafana.
type dashboard struct {
	UID, Title    string
	SchemaVersion int
	Templating    struct {
		List []struct {
			Name, Type string
			Query      any
		}
	}
	Panels []panel
}

type source struct{ Type, UID string }

type panel struct {
	ID                       int
	Type, Title, Description string
	Datasource               source
	GridPos                  struct{ X, Y, W, H int }
	FieldConfig              struct{ Defaults struct{ Unit string } }
	Targets                  []struct {
		RefID, Expr, LegendFormat string
		Datasource                source
	}
}

func readDashboard(t *testing.T) (d dashboard) {
	t.Helper()
	if err := json.Unmarshal([]byte(readFile(t, filepath.Join(deployed, "grafana", "dashboards", "mds.json"))), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// TestDashboard: the dashboard can be imported wherever there is a Prometheus: its data source
// is a variable. Panels tell what they show and in which unit, and do not overlap.
func TestDashboard(t *testing.T) {
	d := readDashboard(t)
	if d.UID != "mds" || d.Title != "mds" || d.SchemaVersion < 39 || len(d.Panels) < 30 {
		t.Errorf("%s %s, schema version %d, %d panels", d.UID, d.Title, d.SchemaVersion, len(d.Panels))
	}
	if v := d.Templating.List[0]; v.Name != "datasource" || v.Type != "datasource" || v.Query != "prometheus" {
		t.Errorf("the first variable is %+v", v)
	}
	variable := source{"prometheus", "${datasource}"}
	ids, cells := make(map[int]bool), make(map[[2]int]string)
	for i := range d.Panels {
		p := &d.Panels[i]
		if p.ID == 0 || ids[p.ID] || p.Title == "" {
			t.Errorf("panel %d, %q, has no name or number of its own", p.ID, p.Title)
		}
		ids[p.ID] = true
		g := p.GridPos
		if g.W < 1 || g.H < 1 || g.X < 0 || g.X+g.W > 24 {
			t.Errorf("%s lies at %+v", p.Title, g)
		}
		for x := g.X; x < g.X+g.W; x++ {
			for y := g.Y; y < g.Y+g.H; y++ {
				if other := cells[[2]int{x, y}]; other != "" {
					t.Fatalf("%s lies upon %s", p.Title, other)
				}
				cells[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		if p.Description == "" || p.FieldConfig.Defaults.Unit == "" || len(p.Targets) == 0 || p.Datasource != variable {
			t.Errorf("%s lacks a description, a unit, a query or the data source: %+v", p.Title, p)
		}
		refs := make(map[string]bool)
		for _, target := range p.Targets {
			if refs[target.RefID] || target.Datasource != variable {
				t.Errorf("%s: %+v", p.Title, target)
			}
			refs[target.RefID] = true
		}
	}
}

// TestDashboardOfBefore: the queries that people of the Python version have in their
// dashboards are in this one as they were.
func TestDashboardOfBefore(t *testing.T) {
	var all []string
	for _, p := range readDashboard(t).Panels {
		for _, target := range p.Targets {
			all = append(all, target.Expr)
		}
	}
	text := strings.Join(all, "\n")
	for _, want := range []string{
		"sum(rate(sink_writes_total[5m])) by (sink)",
		"sum(rate(sink_writes_total{status=\"success\"}[5m])) by (sink)\n/ sum(rate(sink_writes_total[5m])) by (sink)",
		"histogram_quantile(0.95, rate(sink_write_latency_seconds_bucket[5m]))",
	} {
		if !strings.Contains("\n"+text+"\n", "\n"+want+"\n") {
			t.Errorf("no panel asks for\n%s", want)
		}
	}
}
