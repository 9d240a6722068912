"""``login``, ``logout`` and ``context``: services elsewhere, under names of one's own."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import replace
from typing import IO, Final

import click

from runyard.cli.session import Session, common, on_terminal
from runyard.cli.table import table
from runyard.client import contexts, signing_in
from runyard.client.address import address_of, home_folder, local
from runyard.client.contexts import LOCAL, Contexts, Named
from runyard.client.errors import Misuse, NotSignedIn

_NAME: Final = re.compile("[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@click.command()
@click.argument("url")
@click.option("--name", metavar="CONTEXT", help="What to call it here [default: its host].")
@click.option("--fingerprint", metavar="HEX", help="Of its authority, as `runyard up` printed it there.")
@click.option("--token-file", type=click.File(), metavar="FILE", help="A file with the token; `-` for standard input.")
@click.option("--member", metavar="ACCOUNT/NAME", help="Sign in with this member's password, for some hours.")
@click.option("--oidc", is_flag=True, help="Sign in at the OpenID Connect issuer that the service trusts.")
@click.option("--password-file", type=click.File(), metavar="FILE", help="The password, instead of asking for it.")
@common
@click.pass_obj
def login(
    session: Session,
    url: str,
    name: str | None,
    fingerprint: str | None,
    token_file: IO[str] | None,
    member: str | None,
    password_file: IO[str] | None,
    oidc: bool,
) -> None:
    """Sign in to a service elsewhere, and use it from now on."""
    address = address_of(Named("", url))
    chosen = _checked(name or address.host.strip("[]"))
    account, _, person = (member or "").partition("/")
    if member is not None and not (account and person):
        raise Misuse("Write --member ACCOUNT/NAME, such as --member acme/mia.")
    if oidc and (member or token_file or password_file):
        raise Misuse("--oidc goes without --member, --token-file and --password-file: the issuer says who you are.")
    one = Named(chosen, address.url, None, _authority(session, address.url, fingerprint))
    if oidc:
        # For start-up: a web server and a browser are for this way in alone.
        from runyard.client.by_issuer import sign_in_by_issuer  # noqa: PLC0415

        one = replace(one, token=sign_in_by_issuer(one, session.say).token)
    elif member is None:
        one = replace(one, token=_word(session, token_file, "Token", "RUNYARD_TOKEN", "--token-file"))
    else:
        password = _word(session, password_file, "Password", None, "--password-file")
        one = replace(one, token=signing_in.token_for(one, account, person, password))
    found = signing_in.sign_in(one)
    path = contexts.file_of()
    contexts.save(path, contexts.load(path).with_one(one))
    if session.json:
        session.emit({"context": chosen, "url": one.url, "account": found.account, "member": found.member})
        return
    who = f"{found.member} of account {found.account}" if found.member else found.account
    session.say(f"Signed in to {one.url} as {who}. Commands go there now: `runyard context use local` leads back here.")


def _checked(name: str) -> str:
    if name == LOCAL or not _NAME.fullmatch(name):
        raise Misuse(f"{name!r} can be no context's name: give another with --name (letters, digits, `.`, `_`, `-`).")
    return name


def _authority(session: Session, url: str, fingerprint: str | None) -> str:
    """The authority to pin; empty where the certificate is trusted anyway."""
    wanted = signing_in.plain_fingerprint(fingerprint) if fingerprint is not None else None
    if wanted is None and signing_in.is_trusted(url):
        return ""
    pem, found = signing_in.authority_of(url)
    if wanted == found:
        return pem
    if wanted is not None:
        raise NotSignedIn(
            f"The authority of {url} has the fingerprint {found}, not the one that you gave: somebody may stand "
            "between you and the service. Nothing was sent. Compare with what `runyard up` prints there."
        )
    told = f"The certificate of {url} is signed by an authority of the service's own, with the fingerprint\n  {found}"
    if session.json or not (on_terminal() and sys.stdin.isatty()):
        raise NotSignedIn(f"{told}\nIf `runyard up` prints the same there, sign in with --fingerprint {found}")
    session.say(told)
    if not click.confirm("Does `runyard up` print the same there?", err=True):
        raise NotSignedIn("Not signed in: nothing was sent.")
    return pem


def _word(session: Session, file: IO[str] | None, what: str, variable: str | None, option: str) -> str:
    """A secret from a file, the environment or, on a terminal, from the person."""
    text = file.read() if file is not None else os.environ.get(variable or "", "")
    if not text.strip() and file is None and not session.json and sys.stdin.isatty() and on_terminal():
        text = click.prompt(what, hide_input=True, err=True)
    if not text.strip():
        also = f", or {variable}" if variable else ""
        raise Misuse(f"Give the {what.lower()}: {option} FILE (`-` for standard input){also}.")
    return text.strip() if variable else text.rstrip("\r\n")


@click.command()
@click.argument("name", required=False, metavar="[CONTEXT]")
@common
@click.pass_obj
def logout(session: Session, name: str | None) -> None:
    """Forget a service, and the token for it [default: the current one]. `tokens rm` revokes the token itself."""
    path = contexts.file_of()
    kept = contexts.load(path)
    wanted = name or kept.current
    if wanted is None:
        raise Misuse("You are signed in nowhere else: `runyard context list` shows what there is.")
    _remove(session, wanted)


@click.group()
def context() -> None:
    """Choose among the services that you are signed in to: list, use, rm."""


@context.command("list")
@common
@click.pass_obj
def list_contexts(session: Session) -> None:
    """List them; this machine's own installation is called `local`."""
    kept = contexts.load(contexts.file_of())
    here = local()
    known = [*([here] if here is not None else []), *kept.named]
    if session.json:
        session.emit([{"name": each.name, "url": each.url, "current": _is_current(kept, each)} for each in known])
        return
    rows = [("*" if _is_current(kept, each) else "", each.name, each.url) for each in known]
    session.out(table(("", "NAME", "ADDRESS"), rows, flexible=2))
    if not known:
        session.say(f"There is none, and no installation in {home_folder()}: `runyard login URL` or `runyard up`.")


def _is_current(kept: Contexts, one: Named) -> bool:
    return one.name == (kept.current or LOCAL)


@context.command()
@click.argument("name", metavar="CONTEXT")
@common
@click.pass_obj
def use(session: Session, name: str) -> None:
    """Send commands there from now on; `local` for this machine's own."""
    path = contexts.file_of()
    contexts.save(path, contexts.load(path).using(name))
    if session.json:
        session.emit({"current": name})
    else:
        session.say(f"Commands go to {name} now.")


@context.command()
@click.argument("name", metavar="CONTEXT")
@common
@click.pass_obj
def rm(session: Session, name: str) -> None:
    """Forget one, and the token for it."""
    _remove(session, name)


def _remove(session: Session, name: str) -> None:
    path = contexts.file_of()
    kept = contexts.load(path)
    if kept.get(name) is None:
        raise Misuse(contexts.absent(name))
    contexts.save(path, kept.without(name))
    if session.json:
        session.emit({"removed": name})
    else:
        session.say(f"Forgot {name}.")
