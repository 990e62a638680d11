#!/usr/bin/env python3
"""Writes mails, and what the email package of Python reads in them, into a folder.

Usage: generate.py FOLDER

For each of MAILS mails there are NAME.eml and NAME.json with subject, text, html and attachments
(file name, type, bytes, digest). The same mails come out each time. They are put together as text here,
so that they hold what the generator of the package would never write.
"""

import base64
import email
import email.policy
import hashlib
import json
import quopri
import random
import sys
from pathlib import Path

MAILS = 400
WORDS = {
    "utf-8": "Grüße € 日本語 Привет naïve 🎉 שלום plain words".split(),
    "iso-8859-1": "Grüße señor naïve façade plain words".split(),
    "windows-1252": "“quoted” 5€ naïve plain words".split(),
    "koi8-r": "Привет мир письмо plain words".split(),
    "windows-1251": "Привет мир письмо plain words".split(),
    "shift_jis": "日本語 メール テスト plain words".split(),
    "iso-2022-jp": "日本語 メール テスト plain words".split(),
    "euc-kr": "안녕 세계 plain words".split(),
    "gb18030": "你好 世界 邮件 plain words".split(),
    "big5": "繁體 中文 plain words".split(),
    "iso-8859-2": "Zażółć gęślą jaźń plain words".split(),
    "us-ascii": "plain words of a mail".split(),
}
HEADER_CHARSETS = [name for name in WORDS if name != "us-ascii"]


class Mail:
    """One random mail, with its line ends."""

    def __init__(self, chance):
        self.chance = chance
        self.boundaries = 0

    def pick(self, *choices):
        return self.chance.choice(choices)

    def sentence(self, charset, most=12):
        count = self.chance.randint(1, most)
        return " ".join(self.chance.choice(WORDS[charset]) for _ in range(count))

    def word(self, charset, text):
        data = text.encode(charset)
        if self.pick(True, False):
            return f"=?{charset}?{self.pick('B', 'b')}?{base64.b64encode(data).decode()}?="
        quoted = "".join(
            chr(c) if chr(c).isascii() and chr(c).isalnum() else "_" if c == 32 else f"={c:02X}" for c in data
        )
        return f"=?{self.pick(charset, charset.upper())}?{self.pick('Q', 'q')}?{quoted}?="

    def unstructured(self):
        """The value of a subject."""
        kind = self.chance.randrange(6)
        if kind == 0:
            return self.sentence("us-ascii").encode()
        if kind == 1:
            return self.sentence("utf-8").encode()
        if kind == 2:
            # A character split over two words.
            data, cut = "ab € cd 🎉".encode(), self.chance.randint(4, 6)
            words = [f"=?utf-8?b?{base64.b64encode(piece).decode()}?=" for piece in (data[:cut], data[cut:])]
            return "\r\n ".join(words).encode()
        pieces = []
        for _ in range(self.chance.randint(1, 4)):
            charset = self.chance.choice(HEADER_CHARSETS)
            plain = self.chance.random() < 0.3
            pieces.append(self.sentence("us-ascii", 3) if plain else self.word(charset, self.sentence(charset, 3)))
        return self.pick(" ", "\r\n ", "\r\n\t").join(pieces).encode()

    def transfer_encoded(self, data, text):
        """An encoding and the encoded bytes: data, its line ends being CRLF if it is text."""
        kind = self.chance.randrange(4 if text else 3)
        if kind == 0:
            return self.pick("base64", "BASE64"), base64.encodebytes(data).replace(b"\n", b"\r\n")
        if kind == 1:
            width = self.chance.randint(20, 76)
            encoded = base64.b64encode(data)
            return "base64", b"\r\n".join(encoded[at:at + width] for at in range(0, len(encoded), width))
        if kind == 2:
            lines = data.split(b"\r\n") if text else [data]
            encoded = [quopri.encodestring(line, quotetabs=not text).replace(b"\n", b"\r\n") for line in lines]
            if not text:
                encoded = ["".join(f"={c:02X}" + ("=\r\n" if at % 20 == 19 else "") for at, c in enumerate(data)).encode()]
            return "quoted-printable", b"\r\n".join(encoded)
        return self.pick("8bit", "7bit", "binary", "x-unknown"), data

    def text_part(self, kind):
        charset = self.chance.choice(list(WORDS))
        lines = [self.sentence(charset) for _ in range(self.chance.randint(0, 5))]
        if kind == "html":
            lines = [f"<p>{line}</p>" for line in lines]
        data = "\r\n".join(lines).encode(charset)
        if self.chance.random() < 0.05:
            data += b" \xff\xfe" if charset == "utf-8" else b""
        encoding, encoded = self.transfer_encoded(data, True)
        quote = self.pick('"', "")
        name = self.pick(charset, charset.upper())
        headers = [f"Content-Type: text/{kind}; charset={quote}{name}{quote}"]
        if encoding != "7bit" or self.pick(True, False):
            headers.append(f"Content-Transfer-Encoding: {encoding}")
        return self.entity(headers, encoded)

    def file_name(self, parameter):
        """A parameter that names a file, written in one of the ways that there are."""
        charset = self.chance.choice(["utf-8", "iso-8859-1", "koi8-r"])
        name = self.sentence(charset, 3) + self.pick(".txt", ".pdf", "")
        percent = "".join(chr(c) if c < 128 and chr(c).isalnum() else f"%{c:02X}" for c in name.encode(charset))
        kind = self.chance.randrange(5)
        if kind == 0:
            return f'{parameter}="plain; (1) \\"name\\".txt"'
        if kind == 1:
            return f"{parameter}=plain.txt"
        if kind == 2:
            return f"{parameter}*={charset}'{self.pick('', 'en')}'{percent}"
        if kind == 3:
            return f'{parameter}="{self.word(charset, name)}"'
        # Continued, cut anywhere but within %XX.
        pieces, rest = [], percent
        while rest:
            cut = min(len(rest), self.chance.randint(3, 12))
            cut += 1 if rest[cut - 1:cut] == "%" else 0
            cut += 1 if rest[cut - 2:cut - 1] == "%" else 0
            pieces.append(rest[:cut])
            rest = rest[cut:]
        first = f"{charset}''"
        return ";\r\n ".join(
            f"{parameter}*{index}*={first if index == 0 else ''}{piece}" for index, piece in enumerate(pieces)
        )

    def file_part(self):
        data = self.chance.randbytes(self.chance.choice([0, 1, 2, 3, 50, 400]))
        encoding, encoded = self.transfer_encoded(data, False)
        kind = self.pick("application/octet-stream", "image/png", "APPLICATION/PDF", "text/csv")
        headers = [f"Content-Type: {kind}", f"Content-Transfer-Encoding: {encoding}"]
        if self.pick(True, False):
            headers.append(f"Content-Disposition: attachment;\r\n {self.file_name('filename')}")
        else:
            headers[0] += f"; {self.file_name('name')}"
            headers.append(self.pick("Content-Disposition: inline", "Content-ID: <part@example.org>"))
        self.chance.shuffle(headers)
        return self.entity(headers, encoded)

    def broken_part(self):
        """A part with a transfer encoding that is not quite right."""
        kind = self.chance.randrange(4)
        headers = ["Content-Type: application/octet-stream"]
        if kind == 0:
            encoded = base64.b64encode(self.chance.randbytes(31)).rstrip(b"=")
        elif kind == 1:
            encoded = b"*".join([b"!", base64.b64encode(self.chance.randbytes(30)), b"-"])
        elif kind == 2:
            encoded = b"a=ZZ =4 100=% b = \t\r\nend"
        else:
            encoded = b"trailing blanks \t\r\nend"
        headers.append(f"Content-Transfer-Encoding: {'base64' if kind < 2 else 'quoted-printable'}")
        return self.entity(headers, encoded)

    def entity(self, headers, body):
        return "\r\n".join(headers).encode() + b"\r\n\r\n" + body

    def multipart(self, kind, parts, parameters=""):
        self.boundaries += 1
        # Each a prefix of those that follow.
        boundary = "=_part" + "x" * self.boundaries
        head = f'Content-Type: multipart/{kind}; boundary="{boundary}"{parameters}\r\n\r\n'.encode()
        head += self.pick(b"", b"A preamble.\r\n")
        delimiter = f"--{boundary}".encode()
        padding = self.pick(b"", b"", b"  ")
        body = b"".join(delimiter + padding + b"\r\n" + part + b"\r\n" for part in parts)
        end = delimiter + b"--\r\n" + self.pick(b"", b"An epilogue.\r\n")
        return head + body + (end if self.chance.random() < 0.9 else b"")

    def attached_mail(self):
        inner = b"Subject: inner\r\n\r\ninner text\r\nof two lines"
        return self.entity(["Content-Type: message/rfc822"], inner)

    def content(self):
        kind = self.chance.randrange(6)
        if kind == 0:
            return self.text_part("plain")
        if kind == 1:
            return self.text_part("html")
        both = [self.text_part("plain"), self.text_part("html")]
        if kind == 2:
            return self.multipart("alternative", both)
        if kind == 3:
            related = self.multipart("related", [both[1], self.file_part()])
            return self.multipart("alternative", [both[0], related])
        files = [self.file_part() for _ in range(self.chance.randint(0, 3))]
        if self.chance.random() < 0.1:
            files.append(self.broken_part())
        if self.chance.random() < 0.2:
            files.append(self.attached_mail())
        if kind == 4:
            return self.multipart("mixed", [both[0], *files])
        return self.multipart("mixed", [self.multipart("alternative", both), *files])

    def bytes(self):
        head = [b"From: Ann <ann@example.org>", b"To: bob@example.com", b"Subject: " + self.unstructured()]
        self.chance.shuffle(head)
        mail = b"\r\n".join(head) + b"\r\nMIME-Version: 1.0\r\n" + self.content()
        return mail


def leaves(message):
    """The leaf parts; an attached mail is one."""
    if message.get_content_maintype() == "multipart" and message.is_multipart():
        for part in message.iter_parts():
            yield from leaves(part)
    else:
        yield message


def part_bytes(part):
    """The decoded bytes; an attached mail as it is."""
    if part.get_content_type() == "message/rfc822":
        return part.get_payload(0).as_bytes(policy=part.policy.clone(linesep="\r\n"))
    return part.get_payload(decode=True)


def text_of(part):
    return part.get_payload(decode=True).decode(part.get_content_charset("utf-8"), "replace")


def read(raw):
    """What Python reads."""
    message = email.message_from_bytes(raw, policy=email.policy.default.clone(raise_on_defect=False))
    text = html = None
    attachments = []
    for part in leaves(message):
        kind = part.get_content_type()
        marked = part.get_content_disposition() == "attachment"
        if kind == "text/plain" and text is None and not marked:
            text = text_of(part)
        elif kind == "text/html" and html is None and not marked:
            html = text_of(part)
        else:
            attachments.append({
                "filename": part.get_filename(),
                "content_type": kind,
                "base64": base64.b64encode(part_bytes(part)).decode(),
                "sha256": hashlib.sha256(part_bytes(part)).hexdigest(),
            })
    return {"subject": message["Subject"], "text": text, "html": html, "attachments": attachments}


def main():
    folder = Path(sys.argv[1])
    for number in range(MAILS):
        raw = Mail(random.Random(number)).bytes()
        (folder / f"{number:03}.eml").write_bytes(raw)
        (folder / f"{number:03}.json").write_text(json.dumps(read(raw)), encoding="utf-8", errors="surrogatepass")


main()
