package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/connmapgo/connmap/examples/mapserver/internal/mapview"
	"github.com/connmapgo/connmap/examples/mapserver/internal/ui"
	"github.com/connmapgo/connmap/rules"
)

const (
	mine     = "\"Mine\",peer,443,10,200,30,255,0,0\n"
	settings = "location_x 20\nlocation_y 500\nmap_width 1000\nblack false\nupdate_interval 1\n"
)

// place writes files, by their names below a folder.
func place(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		name = filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o700))
		require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
	}
}

func TestFindRules(t *testing.T) {
	older := "# from before\n" + rules.DefaultFile
	tests := []struct {
		name  string
		files map[string]string
		want  string
		notes []string
	}{
		{"nothing", nil, "config/connmaprc", nil},
		{"own", map[string]string{"config/connmaprc": mine}, "config/connmaprc", nil},
		{"here", map[string]string{"work/connmapperl2rc.beep": mine}, "work/connmapperl2rc.beep", nil},
		{"at home", map[string]string{"home/.connmaprc": mine}, "home/.connmaprc", nil},
		{"other spellings", map[string]string{"home/connmapperlrc2.beep": mine}, "home/connmapperlrc2.beep", nil},
		{"oldest spelling", map[string]string{"work/connmap2rc": mine}, "work/connmap2rc", nil},
		{"without a number", map[string]string{"work/connmapperlrc": mine}, "work/connmapperlrc", nil},
		{"here before home", map[string]string{"work/.connmaprc": mine, "home/connmapperl2rc.beep": mine}, "work/.connmaprc",
			[]string{"home/connmapperl2rc.beep is not used: use it with -rules home/connmapperl2rc.beep"}},
		{"one of a folder", map[string]string{"work/.connmaprc": mine, "work/connmapperl2rc.beep": mine}, "work/connmapperl2rc.beep", nil},
		{"own before here", map[string]string{"config/connmaprc": mine, "work/connmapperl2rc.beep": mine}, "config/connmaprc",
			[]string{"work/connmapperl2rc.beep is not used: use it with -rules work/connmapperl2rc.beep"}},
		{"own, not edited", map[string]string{"config/connmaprc": rules.DefaultFile, "home/.connmaprc": mine}, "home/.connmaprc", nil},
		{"own, not edited but for comments", map[string]string{"config/connmaprc": older, "home/.connmaprc": mine}, "home/.connmaprc", nil},
		{"own, emptied", map[string]string{"config/connmaprc": "", "home/.connmaprc": mine}, "config/connmaprc",
			[]string{"home/.connmaprc is not used: use it with -rules home/.connmaprc"}},
		{"bad, but the user's", map[string]string{"work/connmapperl2rc.beep": "\x00", "home/.connmaprc": mine}, "work/connmapperl2rc.beep",
			[]string{"home/.connmaprc is not used: use it with -rules home/.connmaprc"}},
		{"no file", map[string]string{"work/connmapperlrc/x": mine, "home/.connmaprc": mine}, "home/.connmaprc", nil},
		{"settings", map[string]string{"config/connmaprc": settings}, "config/rules",
			[]string{"config/connmaprc has settings of the C program connmap and is not changed"}},
		{"settings and rules", map[string]string{"config/connmaprc": settings, "config/rules": mine}, "config/rules",
			[]string{"config/connmaprc has settings of the C program connmap and is not changed"}},
		{"settings at home", map[string]string{"home/.connmaprc": settings, "home/connmap2rc": mine}, "home/connmap2rc",
			[]string{"home/.connmaprc has settings of the C program connmap and is not changed"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			place(t, dir, tt.files)
			require.NoError(t, os.MkdirAll(filepath.Join(dir, "work"), 0o700))
			t.Chdir(filepath.Join(dir, "work"))
			cfg := config{configDir: filepath.Join(dir, "config"), homeDir: filepath.Join(dir, "home")}
			name, notes := cfg.findRules()
			short := strings.NewReplacer(dir+"/", "")
			assert.Equal(t, tt.want, short.Replace(name))
			for i := range notes {
				notes[i] = short.Replace(notes[i])
			}
			assert.Equal(t, tt.notes, notes)

			cfg.rules = "any name"
			name, notes = cfg.findRules()
			assert.Equal(t, "any name", name)
			assert.Empty(t, notes)
		})
	}
	t.Run("home is here", func(t *testing.T) {
		dir := t.TempDir()
		place(t, dir, map[string]string{".connmaprc": mine})
		t.Chdir(dir)
		name, notes := config{configDir: filepath.Join(dir, "config"), homeDir: dir}.findRules()
		assert.Equal(t, filepath.Join(dir, ".connmaprc"), name)
		assert.Empty(t, notes)
	})
}

// TestRulesOfConnmapperl: who starts the map in the folder of connmapperl has its rules, and
// is told which were taken, by the greeting, the log and the window.
func TestRulesOfConnmapperl(t *testing.T) {
	dir := ownFolders(t)
	t.Chdir(t.TempDir())
	const name = "connmapperl2rc.beep"
	require.NoError(t, os.WriteFile(name, []byte("\"Old\",peer,443,0.2,0.5,1,0.8,1,0\n"), 0o600))
	place(t, dir, map[string]string{"connmaprc": settings})
	var log, out strings.Builder
	a := startedWith(t, &log, "-demo", "60")
	assert.Equal(t, "Old", a.monitor.State().Rules[0].Label)
	work, err := os.Getwd()
	require.NoError(t, err)
	left := filepath.Join(dir, "connmaprc") + " has settings of the C program connmap and is not changed"
	a.greet(&out)
	assert.Contains(t, out.String(), "Rules in "+filepath.Join(work, name)+"\n("+left+")\n")
	assert.Contains(t, log.String(), "1 rule read from "+filepath.Join(work, name))
	assert.Contains(t, log.String(), left)
	assert.Equal(t, "rules from "+filepath.Join(work, name), a.foundRules())
	assert.Empty(t, a.monitor.State().Problems)

	// Who takes them away gets connmap's own, beside the settings.
	require.NoError(t, os.Remove(name))
	said, err := a.loadRules()
	require.NoError(t, err)
	assert.Regexp(t, `^\d+ rules read from `+filepath.Join(dir, "rules")+"$", said)
	assert.Equal(t, "rules from "+filepath.Join(dir, "rules")+"; "+left, a.foundRules())
	b, err := os.ReadFile(filepath.Join(dir, "connmaprc"))
	require.NoError(t, err)
	assert.Equal(t, settings, string(b))
}

func startedWith(t *testing.T, log io.Writer, args ...string) *app {
	t.Helper()
	cfg, err := parse(args, io.Discard)
	require.NoError(t, err)
	a, err := start(context.Background(), cfg, slog.New(slog.NewTextHandler(log, nil)))
	require.NoError(t, err)
	t.Cleanup(a.stop)
	a.monitor.Publish()
	return a
}

// TestBadLines: at the start and when they are read again, a bad line costs that line, and
// the first three are shown.
func TestBadLines(t *testing.T) {
	c := serving(t, "-rules", filepath.Join(t.TempDir(), "any"))
	problems := func() string {
		c.monitor.Publish()
		return strings.Join(c.monitor.State().Problems, "\n")
	}
	label := func() string { return c.monitor.State().Rules[0].Label }
	name := c.cfg.rules
	assert.Equal(t, "rules: open "+name+": no such file or directory; the default rules are used: fix the file and press c", problems())

	bad := mine + strings.Repeat("nonsense\n", 5) + mine
	require.NoError(t, os.WriteFile(name, []byte(bad), 0o600))
	c.handle(mapview.ReloadRules{})
	wait(t, c, func(s mapview.Said) bool { return s.Text == "2 rules read from "+name })
	assert.Equal(t, "rules: 5 bad lines, 2 other rules are used; edit "+name+"\n"+
		"line 2: X\nline 3: X\nline 4: X\nand 2 more bad lines",
		strings.ReplaceAll(problems(), `expected the 9 fields "Label",type,target,R,G,B,A,ShowText,Beep, found 1 in "nonsense"`, "X"))
	assert.Equal(t, "Mine", label())
	// All of it is on the map.
	v := &mapview.View{}
	v.Update(time.Now(), mapview.Input{Size: c.cfg.size, Scale: 1}, c.monitor.State())
	for _, want := range []string{"5 bad lines", "line 2:", "line 3:", "line 4:", "and 2 more bad lines", "Mine"} {
		assert.Contains(t, drawn(v), want)
	}

	for text, want := range map[string]string{
		"nonsense":                       "line 1: expected the 9 fields",
		"\xff\xfe\"\x00M\x00i\x00":       "the file is in UTF-16: save it as UTF-8",
		"\x7fELF\x01\x01\x00\x00":        "the file is binary: rules are text",
		strings.Repeat("#\n", 1<<20):     "the file has more than 1 MiB",
		settings:                         "settings of the C program connmap, not rules; the file is not changed and the rules in use stay: choose another file with -rules FILE",
		"\"caf\xe9\",peer,1,1,1,1,1,0,0": "line 1: expected text in UTF-8",
	} {
		require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
		_, err := c.loadRules()
		assert.ErrorContains(t, err, want)
		assert.Contains(t, problems(), name+": ")
		assert.Contains(t, problems(), "the rules in use stay")
		assert.Equal(t, "Mine", label())
		b, err := os.ReadFile(name)
		require.NoError(t, err)
		assert.Equal(t, text, string(b), "it stays as it is")
	}

	// An editor may empty a file before it writes it.
	require.NoError(t, os.WriteFile(name, nil, 0o600))
	c.handle(mapview.ReloadRules{})
	wait(t, c, func(s mapview.Said) bool { return s.Text == "the rules in use stay" })
	assert.Contains(t, problems(), name+" is empty")
	assert.Equal(t, "Mine", label())

	require.NoError(t, os.WriteFile(name, []byte("# no rules\n"), 0o600))
	said, err := c.loadRules()
	require.NoError(t, err)
	assert.Equal(t, "0 rules read from "+name+": all connections are Other", said)
	assert.Empty(t, problems())
	assert.Equal(t, "Other", label())
}

// drawn is the text of a view's picture, a line each.
func drawn(v *mapview.View) string {
	var b strings.Builder
	for _, i := range v.Scene().Items {
		if i.Shape == ui.Text {
			fmt.Fprintln(&b, i.Text)
		}
	}
	return b.String()
}

// TestQueryRules: a query that asks for no rule needs no rules file, one that does says what
// is wrong with it, and no query writes one.
func TestQueryRules(t *testing.T) {
	history := someHistory(t)
	bad := filepath.Join(t.TempDir(), "bad")
	some := filepath.Join(t.TempDir(), "some")
	place(t, "/", map[string]string{bad: "\x00\x00", some: "nonsense\n" + mine})
	const (
		plain = "SELECT count(*) AS n FROM detailed_history"
		ruled = "SELECT rule(0, 443, '', '') AS rule FROM detailed_history LIMIT 1"
		where = "SELECT ip FROM detailed_history WHERE rule(0, port, '', '') = 'Mine' LIMIT 1"
	)
	for _, name := range []string{bad, some, "/nonexistent/rules"} {
		out, errs, err := asked(t, "-history", history, "-rules", name, "-query", plain)
		require.NoError(t, err)
		assert.Empty(t, errs)
		assert.Contains(t, out, "30\n")
	}
	for _, sql := range []string{ruled, where} {
		out, errs, err := asked(t, "-history", history, "-rules", some, "-query", sql, "-format", "csv")
		require.NoError(t, err)
		assert.Contains(t, errs, "mapserver: rules: 1 bad line, 1 other rule is used; edit "+some+"\nline 1: expected the 9 fields")
		assert.Len(t, strings.Fields(out), 2)
		out, _, err = asked(t, "-history", history, "-rules", bad, "-query", sql)
		assert.ErrorContains(t, err, bad+": the file is binary: rules are text")
		assert.Empty(t, out)
		_, _, err = asked(t, "-history", history, "-rules", "/nonexistent/rules", "-query", sql)
		assert.ErrorContains(t, err, "/nonexistent/rules")
	}
	// Also of a history of connmapperl, which is copied with the rules of its rows.
	original := originalFile(t, 0)
	out, errs, err := asked(t, "-history", original, "-rules", bad, "-query", plain)
	require.NoError(t, err)
	assert.Contains(t, out, "1\n")
	assert.Contains(t, errs, bad+": the file is binary: rules are text; the copy gets the default rules\n")
	_, _, err = asked(t, "-history", original, "-rules", bad, "-query", ruled)
	assert.ErrorContains(t, err, bad+": the file is binary: rules are text")

	dir := ownFolders(t)
	var again strings.Builder
	require.NoError(t, run(t.Context(), []string{"-history", history, "-query", ruled}, &again, io.Discard))
	assert.Contains(t, again.String(), "Web Surfing")
	assert.NoFileExists(t, filepath.Join(dir, "connmaprc"))
}
