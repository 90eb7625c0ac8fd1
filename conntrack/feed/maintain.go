package feed

import (
	"context"
	"log/slog"
	"net/netip"
	"strings"
	"time"
)

// maintain does regular work until ctx ends: it dismisses agents that another process has revoked
// or renamed, stores when agents were seen, and logs refusals.
func (s *Server) maintain(ctx context.Context, log *slog.Logger) {
	tick := time.NewTicker(registryEvery)
	defer tick.Stop()
	saved, logged := time.Now(), ""
	report := func(err error) {
		if err == nil {
			logged = ""
		} else if err.Error() != logged {
			logged = err.Error()
			log.Warn("the registry of agents", "error", err)
		}
	}
	for {
		select {
		case <-ctx.Done():
			s.saveSeen(report)
			s.refusals.flush(log, time.Now().Add(refusalsEvery))
			return
		case <-tick.C:
		}
		s.refusals.flush(log, time.Now())
		if s.Registry == nil {
			continue
		}
		_, err := s.Registry.refresh()
		report(err)
		s.dismissChanged()
		if time.Since(saved) > seenEvery {
			saved = time.Now()
			s.saveSeen(report)
		}
	}
}

// dismissChanged dismisses agents that are revoked or have another name now. Those with another
// name reconnect.
func (s *Server) dismissChanged() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, l := range s.keys {
		switch r, known := s.Registry.lookup(key); {
		case known && !r.Revoked.IsZero():
			l.dismiss(byeRevoked)
		case r.Name != l.Name:
			l.dismiss(byeChanged)
		}
	}
	for _, l := range s.withoutKey.members {
		if !strings.HasSuffix(l.Name, noKeySuffix) && s.Registry.hasName(l.Name) {
			l.dismiss(byeChanged) // an agent with a key has the name now
		}
	}
}

// saveSeen stores which agents are there now.
func (s *Server) saveSeen(report func(error)) {
	if s.Registry == nil {
		return
	}
	now := time.Now()
	s.mu.Lock()
	for key := range s.keys {
		s.Registry.noteSeen(key, netip.Addr{}, now)
	}
	s.mu.Unlock()
	if err := s.Registry.save(); err != nil {
		report(err)
	}
}
