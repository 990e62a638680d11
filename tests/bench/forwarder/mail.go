package main

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"strings"

	"github.com/emersion/go-message"
	_ "github.com/emersion/go-message/charset"
	"github.com/emersion/go-message/mail"
)

// payload is the JSON that the webhook gets: the fields of the daemon's.
type payload struct {
	ID          string       `json:"id"`
	Sender      string       `json:"sender"`
	SenderName  string       `json:"sender_name,omitempty"`
	Recipient   string       `json:"recipient"`
	Recipients  []string     `json:"recipients"`
	Subject     string       `json:"subject"`
	Body        string       `json:"body"`
	HTMLBody    string       `json:"html_body,omitempty"`
	Attachments []attachment `json:"attachments,omitempty"`
	ReceivedAt  string       `json:"received_at"`
	MessageID   string       `json:"message_id,omitempty"`
	SizeBytes   int          `json:"size_bytes"`
}

// attachment is one, with its bytes, which become base64 in JSON.
type attachment struct {
	Filename    string `json:"filename,omitempty"`
	ContentType string `json:"content_type"`
	SizeBytes   int    `json:"size_bytes"`
	SHA256      string `json:"sha256"`
	ContentID   string `json:"content_id,omitempty"`
	Delivery    string `json:"delivery"`
	Data        []byte `json:"data_base64"`
}

// read turns a mail into what stands in it.
func read(content io.Reader) (*payload, error) {
	reader, err := mail.CreateReader(content)
	if err != nil && !message.IsUnknownCharset(err) {
		return nil, err
	}
	defer reader.Close()
	var p payload
	if from, err := reader.Header.AddressList("From"); err == nil && len(from) > 0 {
		p.SenderName = from[0].Name
	}
	// What cannot be decoded is empty, as a missing one is.
	p.Subject, _ = reader.Header.Subject()
	p.MessageID, _ = reader.Header.MessageID()
	for {
		part, err := reader.NextPart()
		if err == io.EOF {
			return &p, nil
		}
		if err != nil && !message.IsUnknownCharset(err) {
			return nil, err
		}
		if err := p.add(part); err != nil {
			return nil, err
		}
	}
}

func (p *payload) add(part *mail.Part) error {
	switch header := part.Header.(type) {
	case *mail.InlineHeader:
		contentType, _, err := header.ContentType()
		if err != nil {
			contentType = "text/plain"
		}
		switch {
		case contentType == "text/plain" && p.Body == "":
			return readText(part.Body, &p.Body)
		case contentType == "text/html" && p.HTMLBody == "":
			return readText(part.Body, &p.HTMLBody)
		}
		return p.attach(part.Body, &header.Header, contentType, "")
	case *mail.AttachmentHeader:
		contentType, _, err := header.ContentType()
		if err != nil {
			contentType = "application/octet-stream"
		}
		filename, _ := header.Filename()
		return p.attach(part.Body, &header.Header, contentType, filename)
	}
	return nil
}

func (p *payload) attach(body io.Reader, header *message.Header, contentType, filename string) error {
	data, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	digest := sha256.Sum256(data)
	p.Attachments = append(p.Attachments, attachment{
		Filename:    filename,
		ContentType: contentType,
		SizeBytes:   len(data),
		SHA256:      hex.EncodeToString(digest[:]),
		ContentID:   strings.Trim(header.Get("Content-Id"), "<>"),
		Delivery:    "inline",
		Data:        data,
	})
	return nil
}

func readText(body io.Reader, text *string) error {
	var builder strings.Builder
	_, err := io.Copy(&builder, body)
	*text = builder.String()
	return err
}
