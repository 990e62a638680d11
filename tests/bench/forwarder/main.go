// Command forwarder does what MailLaser's daemon does, the way a good Go programmer would write it in an afternoon on
// top of go-smtp: mail comes in over SMTP, a webhook gets it as JSON. `make bench` measures the daemon against it.
//
// It is meant to be as fast as such a program is: one HTTP client whose connections are kept, no work twice, and one
// log line a mail.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/emersion/go-smtp"
)

// Octets of a mail: the daemon's default.
const mailBytesMax = 25 << 20

func main() {
	listen := flag.String("listen", "127.0.0.1:2525", "address of the SMTP port")
	url := flag.String("url", "", "address of the webhook")
	recipient := flag.String("recipient", "support@example.com", "the address that mail is taken for")
	concurrency := flag.Int("concurrency", 64, "deliveries at the same time")
	queue := flag.Int("queue", 0, "mails that may wait after they were answered; 0 answers when the webhook has the mail")
	flag.Parse()
	if err := run(*listen, *recipient, newDeliveries(*url, *concurrency, *queue)); err != nil {
		fmt.Fprintln(os.Stderr, "forwarder:", err)
		os.Exit(1)
	}
}

func run(listen, recipient string, deliveries *deliveries) error {
	server := smtp.NewServer(&backend{recipient: recipient, deliveries: deliveries})
	server.Addr = listen
	server.Domain = "localhost"
	server.MaxMessageBytes = mailBytesMax
	server.MaxRecipients = 1000
	server.ReadTimeout = 5 * time.Minute
	server.WriteTimeout = 5 * time.Minute
	server.EnableSMTPUTF8 = true

	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-stop
		if err := server.Close(); err != nil {
			log.Printf("closing: %v", err)
		}
	}()
	if err := server.ListenAndServe(); err != smtp.ErrServerClosed {
		return err
	}
	return nil
}
