module mail-laser.dev/bench/forwarder

go 1.24

require (
	github.com/emersion/go-message v0.18.2
	github.com/emersion/go-smtp v0.25.1
)

require (
	github.com/emersion/go-sasl v0.0.0-20241020182733-b788ff22d5a6 // indirect
	golang.org/x/text v0.14.0 // indirect
)
