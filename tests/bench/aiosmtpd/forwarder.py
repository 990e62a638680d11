"""The same forwarder on top of aiosmtpd, for orientation: mail in over SMTP, JSON out to a webhook.

usage: forwarder.py HOST:PORT URL RECIPIENT CONCURRENCY
"""

import asyncio
import base64
import email
import email.policy
import hashlib
import logging
import secrets
import signal
import sys
from datetime import datetime, timezone

import aiohttp
from aiosmtpd.smtp import SMTP

MAIL_BYTES_MAX = 25 * 1024 * 1024


class Forwarder:
    """Answers a mail when the webhook has it."""

    def __init__(self, http, url, recipient):
        self.http, self.url, self.recipient = http, url, recipient

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.lower() != self.recipient:
            return "550 5.1.1 Unknown recipient"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 Ok"

    async def handle_DATA(self, server, session, envelope):
        identity = secrets.token_hex(13)
        headers = {"Idempotency-Key": identity}
        async with self.http.post(self.url, json=payload(identity, envelope), headers=headers) as answer:
            await answer.read()
            if answer.status // 100 != 2:
                logging.warning("delivery failed id=%s status=%s", identity, answer.status)
                return "451 4.3.0 Try again later"
        logging.info("mail delivered id=%s", identity)
        return "250 2.0.0 Ok"


def payload(identity, envelope):
    mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
    text, html = mail.get_body(("plain",)), mail.get_body(("html",))
    senders = mail["from"].addresses if mail["from"] else ()
    fields = {
        "id": identity,
        "sender": envelope.mail_from,
        "sender_name": senders[0].display_name if senders else None,
        "recipient": envelope.rcpt_tos[0],
        "recipients": envelope.rcpt_tos,
        "subject": mail["subject"] or "",
        "body": text.get_content() if text else "",
        "html_body": html.get_content() if html else None,
        "attachments": [attachment(part) for part in mail.iter_attachments()] if mail.is_multipart() else None,
        "received_at": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
        "message_id": (mail["message-id"] or "").strip("<>") or None,
        "size_bytes": len(envelope.content),
    }
    return {name: value for name, value in fields.items() if value is not None}


def attachment(part):
    data = part.get_payload(decode=True) or b""
    fields = {
        "filename": part.get_filename(),
        "content_type": part.get_content_type(),
        "size_bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "content_id": (part["content-id"] or "").strip("<>") or None,
        "delivery": "inline",
        "data_base64": base64.b64encode(data).decode(),
    }
    return {name: value for name, value in fields.items() if value is not None}


async def main(listen, url, recipient, concurrency):
    host, port = listen.rsplit(":", 1)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    connector = aiohttp.TCPConnector(limit=int(concurrency))
    async with aiohttp.ClientSession(connector=connector) as http:
        forwarder = Forwarder(http, url, recipient)
        session = lambda: SMTP(forwarder, hostname="localhost", data_size_limit=MAIL_BYTES_MAX, enable_SMTPUTF8=True)
        server = await loop.create_server(session, host, int(port))
        async with server:
            await stop.wait()


logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
# What the library itself says of each command is no line a mail.
logging.getLogger("mail.log").setLevel(logging.WARNING)
asyncio.run(main(*sys.argv[1:]))
