package main

import (
	"crypto/rand"
	"encoding/hex"
	"io"
	"strings"
	"time"

	"github.com/emersion/go-smtp"
)

// backend begins sessions.
type backend struct {
	recipient  string
	deliveries *deliveries
}

func (b *backend) NewSession(*smtp.Conn) (smtp.Session, error) {
	return &session{backend: b}, nil
}

// session is one connection.
type session struct {
	*backend
	from string
	to   []string
}

var (
	errUnknown = &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "Unknown recipient"}
	errFull    = &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 2}, Message: "Try again later"}
	errWebhook = &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 0}, Message: "Try again later"}
	errRead    = &smtp.SMTPError{Code: 554, EnhancedCode: smtp.EnhancedCode{5, 6, 0}, Message: "Cannot read this mail"}
)

func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	s.from = from
	return nil
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	if !strings.EqualFold(to, s.recipient) {
		return errUnknown
	}
	s.to = append(s.to, to)
	return nil
}

func (s *session) Data(content io.Reader) error {
	counted := &counter{reader: content}
	mail, err := read(counted)
	if err != nil {
		return errRead
	}
	// What a parser leaves behind the last part belongs to the mail, too.
	if _, err := io.Copy(io.Discard, counted); err != nil {
		return err
	}
	mail.ID = newID()
	mail.Sender = s.from
	mail.Recipient = s.to[0]
	mail.Recipients = s.to
	mail.ReceivedAt = time.Now().UTC().Format("2006-01-02T15:04:05.000Z")
	mail.SizeBytes = counted.bytes
	return s.deliveries.accept(mail)
}

func (s *session) Reset() {
	s.from, s.to = "", nil
}

func (s *session) Logout() error { return nil }

// counter counts what is read.
type counter struct {
	reader io.Reader
	bytes  int
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.reader.Read(p)
	c.bytes += n
	return n, err
}

func newID() string {
	var random [13]byte
	rand.Read(random[:]) // Never fails: see its documentation.
	return hex.EncodeToString(random[:])
}
