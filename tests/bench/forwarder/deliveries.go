package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"time"
)

const (
	// The daemon's defaults: retries of one delivery, the delay before the first, and the time of one attempt.
	retries    = 3
	firstDelay = 100 * time.Millisecond
	timeout    = 30 * time.Second
	// Octets of an answer that are read, so that its connection can be used again.
	answerBytesMax = 64 << 10
)

// deliveries posts mails to a webhook, so many at the same time.
type deliveries struct {
	client *http.Client
	url    string
	slots  chan struct{}
	queue  chan queued // Without one, a mail is delivered before it is answered.
}

// queued is a mail that was answered and waits.
type queued struct {
	id   string
	body []byte
}

func newDeliveries(url string, concurrency, queue int) *deliveries {
	transport := &http.Transport{
		MaxIdleConns:        concurrency,
		MaxIdleConnsPerHost: concurrency,
		MaxConnsPerHost:     concurrency,
		IdleConnTimeout:     45 * time.Second,
	}
	d := &deliveries{
		client: &http.Client{Transport: transport, Timeout: timeout},
		url:    url,
		slots:  make(chan struct{}, concurrency),
	}
	if queue > 0 {
		d.queue = make(chan queued, queue)
		for range concurrency {
			go d.work()
		}
	}
	return d
}

// accept takes a mail over: when it waits in the queue, or, where there is none, when the webhook has it.
func (d *deliveries) accept(mail *payload) error {
	body, err := json.Marshal(mail)
	if err != nil {
		return errRead
	}
	if d.queue == nil {
		d.slots <- struct{}{}
		defer func() { <-d.slots }()
		if !d.deliver(mail.ID, body) {
			return errWebhook
		}
		return nil
	}
	select {
	case d.queue <- queued{mail.ID, body}:
		return nil
	default:
		return errFull
	}
}

func (d *deliveries) work() {
	for mail := range d.queue {
		d.deliver(mail.id, mail.body)
	}
}

func (d *deliveries) deliver(id string, body []byte) bool {
	started := time.Now()
	delay := firstDelay
	for attempt := 1; ; attempt++ {
		err := d.post(id, body)
		if err == nil {
			log.Printf("mail delivered id=%s attempt=%d elapsed=%s", id, attempt, time.Since(started))
			return true
		}
		log.Printf("delivery attempt failed id=%s attempt=%d reason=%q", id, attempt, err)
		if attempt > retries {
			return false
		}
		time.Sleep(delay)
		delay *= 2
	}
}

func (d *deliveries) post(id string, body []byte) error {
	request, err := http.NewRequest(http.MethodPost, d.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Idempotency-Key", id)
	request.Header.Set("User-Agent", "forwarder")
	answer, err := d.client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(answer.Body, answerBytesMax)); err != nil {
		return err
	}
	if answer.StatusCode/100 != 2 {
		return fmt.Errorf("the webhook answered %d", answer.StatusCode)
	}
	return nil
}
