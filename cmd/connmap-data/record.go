package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// A record is what is known of a file beyond its content. It lies beside it
// in FILE.meta; without it, a file is as good, but fetched whole the next time.
type record struct {
	File *revision `json:"file,omitempty"` // in use
	Part *revision `json:"part,omitempty"` // being downloaded
}

// A revision is one state of a file on a server.
type revision struct {
	URL          string    `json:"url"`
	ETag         string    `json:"etag,omitempty"`
	LastModified string    `json:"last_modified,omitempty"`
	Size         int64     `json:"size"` // -1: the server did not say
	ModTime      time.Time `json:"mod_time,omitzero"`
	Kind         string    `json:"kind,omitempty"`
	Rows         int64     `json:"rows,omitempty"`
	Date         time.Time `json:"date,omitzero"`
	Checked      time.Time `json:"checked,omitzero"` // when it was last the newest
}

// validator is what tells this version from others in an If-Range header,
// which takes no weak ETags.
func (v *revision) validator() string {
	if v.ETag != "" && !strings.HasPrefix(v.ETag, "W/") {
		return v.ETag
	}
	return v.LastModified
}

// readRecord returns what is known of a file. Of a file that was replaced or
// changed by others, nothing is.
func readRecord(name string) *record {
	rec := &record{}
	b, err := os.ReadFile(name + ".meta")
	if err != nil || json.Unmarshal(b, rec) != nil {
		return &record{}
	}
	if v := rec.File; v != nil {
		info, err := os.Stat(name)
		if err != nil || info.Size() != v.Size || !info.ModTime().Equal(v.ModTime) {
			rec.File = nil
		}
	}
	return rec
}

// writeRecord keeps rec for the next run.
func writeRecord(name string, rec *record) error {
	if *rec == (record{}) {
		err := os.Remove(name + ".meta")
		if os.IsNotExist(err) {
			return nil
		}
		return err
	}
	b, err := json.MarshalIndent(rec, "", "  ")
	if err != nil {
		return err
	}
	temp := name + ".meta.new"
	if err := os.WriteFile(temp, append(b, '\n'), 0o644); err != nil {
		os.Remove(temp)
		return err
	}
	return os.Rename(temp, name+".meta")
}

// replace puts the file source in the place of target so that at any moment,
// a loss of power included, one or the other is there whole.
func replace(source, target string) error {
	f, err := os.Open(source)
	if err != nil {
		return err
	}
	err = f.Sync()
	f.Close()
	if err != nil {
		return err
	}
	if err := os.Rename(source, target); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(target))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
