#!/usr/bin/python3
"""smtp.py FOLDER [--cert FILE --key FILE [--implicit]] [--user NAME --password WORD]: a mail server for tests.

Listens on a free port of 127.0.0.1, which it prints, and writes each mail to FOLDER, with the envelope in lines before it. With a certificate it takes mail
by TLS only: after STARTTLS, or with --implicit from the beginning. With a user it takes mail after a login only. A recipient that begins with "later" is
refused for now, one that begins with "never" for good. Ends when its standard input does.
"""
import argparse, asyncio, pathlib, ssl, sys

from aiosmtpd.smtp import SMTP, AuthResult

arguments = argparse.ArgumentParser()
arguments.add_argument("folder", type=pathlib.Path)
for name in ("cert", "key", "user", "password"):
    arguments.add_argument("--" + name)
arguments.add_argument("--implicit", action="store_true")
given = arguments.parse_args()


class Handler:
    count = 0

    async def handle_RCPT(self, server, session, envelope, address, options):
        for word, answer in (("later", "451 later"), ("never", "550 no such user here")):
            if address.startswith(word):
                return answer
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        lines = [f"MAIL {envelope.mail_from}"] + [f"RCPT {to}" for to in envelope.rcpt_tos]
        lines += [f"TLS {session.ssl is not None or given.implicit}", f"LOGIN {session.authenticated}", ""]
        Handler.count += 1
        new = given.folder / f".{Handler.count}"
        new.write_bytes("\r\n".join(lines).encode() + b"\r\n" + envelope.content)
        new.rename(given.folder / str(Handler.count))
        return "250 taken"


def login(server, session, envelope, mechanism, data):
    good = (data.login.decode(), data.password.decode()) == (given.user, given.password)
    return AuthResult(success=good, handled=False)


context = None
if given.cert:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(given.cert, given.key)
starttls = context if context and not given.implicit else None


def protocol():
    return SMTP(
        Handler(), tls_context=starttls, require_starttls=starttls is not None, hostname="mail.test",
        authenticator=login if given.user else None, auth_required=given.user is not None,
        auth_require_tls=not given.implicit, enable_SMTPUTF8=True,
    )


async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(protocol, "127.0.0.1", 0, ssl=context if given.implicit else None)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    sys.exit()


asyncio.run(main())
