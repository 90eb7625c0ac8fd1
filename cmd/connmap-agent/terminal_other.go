//go:build !linux && !darwin && !windows

package main

import "os"

func hideTyping(*os.File) (show func(), terminal bool) { return nil, false }

func hideArgument(string) {}
