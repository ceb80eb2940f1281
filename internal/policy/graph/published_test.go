package graph

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// published are sets of policies that people publish. They lie beside a checkout of ours and not in it: without them there is nothing
// to judge, and the test passes. What is said of each policy stands in integration/testdata/entra/published.txt.
const published = "../../../../shared/data/entra"

func TestPublishedPolicies(t *testing.T) {
	if _, err := os.Stat(published); os.IsNotExist(err) {
		t.Logf("there are no published policies beside this checkout")
		return
	}
	var files []File
	err := filepath.WalkDir(published, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".json" {
			return err
		}
		data, err := os.ReadFile(path)
		files = append(files, File{path, data})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	names := &Names{entries: map[string]entry{}}
	for _, v := range Import(files, nil, Options{}).Verdicts {
		for _, id := range v.IDs {
			names.entries[strings.ToLower(id.ID)] = entry{id.Kind, "the " + string(id.Kind) + " " + strings.Trim(id.ID, "<>")}
		}
	}
	for _, test := range []struct {
		name   string
		opts   Options
		want   map[Judgement]int
		loaded int
	}{
		{"as it is", Options{}, map[Judgement]int{Enforced: 56, NotApplicable: 12, Refused: 27}, 56},
		{"with a detection of risk", Options{RiskDetected: true}, map[Judgement]int{Enforced: 67, NotApplicable: 12, Refused: 16}, 67},
		// Two policies want a new password of who is at risk.
		{"with passwords that can be changed, too", Options{RiskDetected: true, PasswordChange: true}, map[Judgement]int{Enforced: 69, NotApplicable: 12, Refused: 14}, 69},
		// Those on the risk of people, and on insiders' risk.
		{"without what can be left out", Options{AllowPartial: true}, map[Judgement]int{Enforced: 56, NotApplicable: 12, Refused: 27}, 56 + 11 + 2},
	} {
		r := Import(files, names, test.opts)
		got := map[Judgement]int{}
		for _, v := range r.Verdicts {
			got[v.Verdict]++
		}
		if !maps.Equal(got, test.want) || len(r.Policies) != test.loaded {
			t.Errorf("%s: %v, %d loaded; want %v, %d", test.name, got, len(r.Policies), test.want, test.loaded)
		}
		data, err := Marshal(r.Policies, r.Strengths)
		if err != nil {
			t.Fatal(err)
		}
		if again := Import([]File{{"export", data}}, nil, test.opts); !reflect.DeepEqual(again.Policies, r.Policies) {
			t.Errorf("%s: they come back as others", test.name)
		}
	}
}
