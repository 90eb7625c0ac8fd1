package main

import (
	"bytes"
	"encoding/xml"
)

const launchdLabel = "connmap-agent" // names the service

// launchdPlist returns the property list of a daemon that always runs a command, and appends
// its messages to a log file. launchd.plist(5) describes the keys.
func launchdPlist(log string, command ...string) []byte {
	var b bytes.Buffer
	text := func(s string) {
		b.WriteString("<string>")
		xml.EscapeText(&b, []byte(s)) // a Buffer never fails
		b.WriteString("</string>\n")
	}
	b.WriteString(`<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
	<key>Label</key>
	`)
	text(launchdLabel)
	b.WriteString("\t<key>ProgramArguments</key>\n\t<array>\n")
	for _, word := range command {
		b.WriteString("\t\t")
		text(word)
	}
	b.WriteString("\t</array>\n\t<key>StandardErrorPath</key>\n\t")
	text(log)
	b.WriteString(`	<key>RunAtLoad</key>
	<true/>
	<key>KeepAlive</key>
	<true/>
	<key>ThrottleInterval</key>
	<integer>10</integer>
	<key>ProcessType</key>
	<string>Background</string>
	<key>Umask</key>
	<integer>63</integer>
</dict>
</plist>
`)
	return b.Bytes()
}
