package main

import "errors"

func (a *app) runCompile(args []string) error {
	return errors.New("not yet")
}
