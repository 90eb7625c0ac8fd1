package names

import (
	"net/netip"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	maxRecords = 256 // of a message that are read
	maxChain   = 16  // aliases that are followed
)

// A Message is what a DNS message says of the addresses of names.
type Message struct {
	ID        uint16
	Type      uint16 // of the records that are asked for
	Response  bool
	Whole     bool   // all records could be read
	Name      string // that was asked for, in lower case without a dot at its end; empty: none, as in mDNS
	Addresses []Address
}

// An Address is one that an answer gives to a name.
type Address struct {
	Name string // the one that was asked for, not the last alias
	Addr netip.Addr
	TTL  time.Duration
}

// ParseDNS reads a query or an answer of DNS, mDNS or LLMNR (RFC 1035, 6762, 4795). An answer
// gives to the name that was asked for the addresses of records A and AAAA that its aliases lead
// to, and those that HTTPS records hint at (RFC 9460). An answer to no question, as in mDNS, gives
// each address to the name of its record. It reports whether the message has a name.
func ParseDNS(b []byte) (m Message, ok bool) {
	var p dnsmessage.Parser
	header, err := p.Start(b)
	if err != nil || header.OpCode != 0 {
		return m, false
	}
	m.ID, m.Response = header.ID, header.Response
	q, err := p.Question()
	switch {
	case err == nil:
		if q.Class&^topBit != dnsmessage.ClassINET {
			return m, false
		}
		if m.Name, ok = Clean(q.Name.String()); !ok {
			return m, false
		}
		m.Type = uint16(q.Type)
	case err != dnsmessage.ErrSectionDone || !m.Response:
		return m, false
	}
	if !m.Response {
		return m, true
	}
	if header.RCode != dnsmessage.RCodeSuccess || p.SkipAllQuestions() != nil {
		m.Whole = true
		return m, m.Name != ""
	}
	var r records
	whole := r.read(&p, p.AnswerHeader, p.SkipAnswer)
	if p.SkipAllAnswers() == nil && p.SkipAllAuthorities() == nil {
		m.Whole = r.read(&p, p.AdditionalHeader, p.SkipAdditional) && whole
	}
	m.Addresses = r.addresses(m.Name)
	return m, m.Name != "" || len(m.Addresses) > 0
}

// questions returns the names that a query asks for, as mDNS asks for several in one.
func questions(b []byte) (list []string) {
	var p dnsmessage.Parser
	if _, err := p.Start(b); err != nil {
		return nil
	}
	for range maxRecords {
		q, err := p.Question()
		if err != nil {
			break
		}
		if name, ok := Clean(q.Name.String()); ok {
			list = append(list, name)
		}
	}
	return list
}

// topBit of a class asks for a unicast answer, or says that a record replaces others (RFC 6762).
const topBit = 1 << 15

// records are those of a message that matter.
type records struct {
	owners []Address // with the names of their records
	alias  map[string]string
}

// read reads records of one section. It reports whether all could be read.
func (r *records) read(p *dnsmessage.Parser, next func() (dnsmessage.ResourceHeader, error), skip func() error) bool {
	for range maxRecords {
		h, err := next()
		if err != nil {
			return err == dnsmessage.ErrSectionDone
		}
		name := strings.ToLower(strings.TrimSuffix(h.Name.String(), "."))
		ttl := time.Duration(h.TTL) * time.Second
		add := func(a netip.Addr) {
			if isPeer(a) && len(r.owners) < maxRecords {
				r.owners = append(r.owners, Address{name, a.Unmap(), ttl})
			}
		}
		if h.Class&^topBit != dnsmessage.ClassINET {
			if skip() != nil {
				return false
			}
			continue
		}
		switch h.Type {
		case dnsmessage.TypeA:
			a, err := p.AResource()
			if err != nil {
				return false
			}
			add(netip.AddrFrom4(a.A))
		case dnsmessage.TypeAAAA:
			a, err := p.AAAAResource()
			if err != nil {
				return false
			}
			add(netip.AddrFrom16(a.AAAA))
		case dnsmessage.TypeCNAME:
			c, err := p.CNAMEResource()
			if err != nil {
				return false
			}
			r.follow(name, c.CNAME.String())
		case dnsmessage.TypeHTTPS:
			s, err := p.HTTPSResource()
			if err != nil {
				return false
			}
			if s.Priority == 0 {
				r.follow(name, s.Target.String())
				continue
			}
			hints4, _ := s.GetParam(dnsmessage.SVCParamIPv4Hint)
			for ; len(hints4) >= 4; hints4 = hints4[4:] {
				add(netip.AddrFrom4([4]byte(hints4)))
			}
			hints6, _ := s.GetParam(dnsmessage.SVCParamIPv6Hint)
			for ; len(hints6) >= 16; hints6 = hints6[16:] {
				add(netip.AddrFrom16([16]byte(hints6)))
			}
			if target := s.Target.String(); target != "." {
				r.follow(name, target)
			}
		default:
			if skip() != nil {
				return false
			}
		}
	}
	return false
}

// follow notes that a name is an alias of another one.
func (r *records) follow(name, target string) {
	if r.alias == nil {
		r.alias = make(map[string]string)
	}
	r.alias[name] = strings.ToLower(strings.TrimSuffix(target, "."))
}

// addresses returns those to which the aliases of a name lead, each once, under that name. For no
// name it returns all, under their own.
func (r *records) addresses(asked string) []Address {
	if asked == "" {
		kept := r.owners[:0]
		for _, a := range r.owners {
			if name, ok := Clean(a.Name); ok {
				a.Name = name
				kept = append(kept, a)
			}
		}
		return kept
	}
	chain := []string{asked}
	for name := asked; len(chain) < maxChain; {
		next, ok := r.alias[name]
		if !ok {
			break
		}
		chain = append(chain, next)
		name = next
	}
	kept := r.owners[:0]
	for _, a := range r.owners {
		for _, name := range chain {
			if a.Name == name {
				kept = append(kept, Address{asked, a.Addr, a.TTL})
				break
			}
		}
	}
	return kept
}
