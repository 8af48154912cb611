"""/access/users and their tokens. What a call itself sets is answered as it was sent: a string."""

from typing import Any

from pve_simulator.access.directory import Directory, Token, User, UserGroup
from pve_simulator.api import Failed, Invalid
from pve_simulator.dispatch import Call
from pve_simulator.formats import BadFormat, check_user, split_list
from pve_simulator.router import endpoint

Row = dict[str, Any]
USERS = "/access/users"
USER = "/access/users/{userid}"
TOKEN = "/access/users/{userid}/token/{tokenid}"
TEXTS = ("firstname", "lastname", "email", "comment", "keys")


def directory_of(call: Call) -> Directory:
    found: Directory = call.cluster.access.directory
    return found


@endpoint("GET", USERS, protected=True)
def list_users(call: Call) -> list[Row]:
    """Those that one may modify or audit, and always oneself."""
    directory, rules = directory_of(call), call.cluster.access.rules(call.identity)
    privileges = ["User.Modify", "Sys.Audit"]
    sees_all = rules.any("/access/groups", privileges, quiet=True)
    visible = {call.identity.name} | rules.users_of_groups(privileges)
    wanted = call.params.get("enabled")
    return [
        _listed(directory, name, bool(call.params.get("full")))
        for name, user in sorted(directory.users.items())
        if (sees_all or name in visible) and (wanted is None or bool(wanted) == bool(user.enable))
    ]


def _listed(directory: Directory, name: str, is_full: bool) -> Row:
    user = directory.users[name]
    row = {"userid": name, **_facts(user)}
    if is_full:
        row["groups"] = ",".join(directory.groups_of(name))
        row["tokens"] = _tokens(user) if _shown(user) else None
    realm = directory.realms.get(name.rpartition("@")[2])
    if realm:
        row["realm-type"] = realm.type
    return row


def _facts(user: User) -> Row:
    row: Row = {"enable": user.enable, "expire": user.expire}
    row |= {key: getattr(user, key) for key in TEXTS if getattr(user, key)}
    # The file has a colon for each field up to the last one that is set, so an empty one is read.
    if "email" not in row and (user.comment or user.keys):
        row["email"] = ""
    return row


def _shown(user: User) -> dict[str, Token]:
    return {name: token for name, token in sorted(user.tokens.items()) if not token.is_hidden}


def _tokens(user: User) -> list[Row]:
    return [{"tokenid": name, **_token(token)} for name, token in _shown(user).items()]


def _token(token: Token) -> Row:
    row: Row = {"privsep": token.privsep, "expire": token.expire}
    return row | ({"comment": token.comment} if token.comment else {})


@endpoint("POST", USERS, protected=True)
def create_user(call: Call) -> None:
    name = _name(call)
    directory = directory_of(call)
    with call.cluster.access.change("create user failed"):
        if name in directory.users:
            raise Failed(f"user '{name}' already exists")
        password = call.params.get("password")
        if password is not None:
            _need_realm(directory, name)
        groups = _known_groups(directory, call.params.get("groups"))
        user = User(enable=int(call.params.get("enable", 1)), password=password)
        user.expire = int(call.params.get("expire", 0))
        for key in TEXTS:
            setattr(user, key, call.params.get(key, ""))
        directory.users[name] = user
        for group in groups:
            group.users.add(name)


@endpoint("GET", USER)
def read_user(call: Call) -> Row:
    directory, name = directory_of(call), _name(call)
    user = directory.user(name)
    shown = _shown(user)
    return _facts(user) | {
        "groups": directory.groups_of(name),
        "tokens": {key: _token(token) for key, token in shown.items()} if shown else None,
    }


@endpoint("PUT", USER, protected=True)
def update_user(call: Call) -> None:
    directory, name = directory_of(call), _name(call)
    with call.cluster.access.change("update user failed"):
        user = directory.user(name)
        groups = call.params.get("groups")
        joined = _known_groups(directory, groups)
        for key in ("enable", "expire", *TEXTS):
            if call.params.get(key) is not None:
                setattr(user, key, call.params[key])
        if groups is not None and not call.params.get("append"):
            for group in directory.groups.values():
                group.users.discard(name)
        for group in joined:
            group.users.add(name)


@endpoint("DELETE", USER, protected=True)
def delete_user(call: Call) -> None:
    name = _name(call)
    with call.cluster.access.change("delete user failed"):
        directory_of(call).remove_user(name)


@endpoint("GET", "/access/users/{userid}/token")
def list_tokens(call: Call) -> list[Row]:
    return _tokens(directory_of(call).user(_name(call)))


@endpoint("GET", TOKEN)
def read_token(call: Call) -> Row:
    return _token(directory_of(call).token(_name(call), call.params["tokenid"]))


@endpoint("POST", TOKEN, protected=True)
def create_token(call: Call) -> Row:
    """The secret is told here and never again."""
    directory, name, token_id = directory_of(call), _name(call), call.params["tokenid"]
    user = directory.user(name)
    if token_id in user.tokens:
        raise Invalid(tokenid="Token already exists.")
    with call.cluster.access.change("generating token failed"):
        secret = call.cluster.random_uuid()
        user.tokens[token_id] = Token(secret, privsep=1)
        _set(user.tokens[token_id], call)
    sent = call.request.params
    info: Row = {"privsep": sent.get("privsep", 1)}
    info |= {"expire": sent["expire"]} if "expire" in sent else {}
    info |= {"comment": sent["comment"]} if sent.get("comment") else {}
    return {"info": info, "value": secret, "full-tokenid": f"{name}!{token_id}"}


@endpoint("PUT", TOKEN, protected=True)
def update_token(call: Call) -> Row:
    name, token_id = _name(call), call.params["tokenid"]
    token = directory_of(call).token(name, token_id)
    with call.cluster.access.change("updating token info failed"):
        _set(token, call)
        if call.params.get("regenerate") in (1, "1"):
            token.secret = call.cluster.random_uuid()
    sent = {key: call.request.params[key] for key in ("privsep", "expire") if key in call.params}
    row = _token(token) | sent
    if call.params.get("regenerate") in (1, "1"):
        row |= {"value": token.secret, "full-tokenid": f"{name}!{token_id}"}
    return row


@endpoint("DELETE", TOKEN, protected=True)
def delete_token(call: Call) -> None:
    name, token_id = _name(call), call.params["tokenid"]
    directory = directory_of(call)
    directory.token(name, token_id)
    with call.cluster.access.change("deleting token failed"):
        del directory.users[name].tokens[token_id]
        directory.forget("token", f"{name}!{token_id}")


def _set(token: Token, call: Call) -> None:
    for key in ("privsep", "expire"):
        if call.params.get(key) is not None:
            setattr(token, key, int(call.params[key]))
    if call.params.get("comment"):
        token.comment = call.params["comment"]


def _name(call: Call) -> str:
    name = str(call.params["userid"])
    try:
        check_user(name)
    except BadFormat as error:
        raise Failed(str(error)) from None
    return name


def _need_realm(directory: Directory, name: str) -> None:
    realm = name.rpartition("@")[2]
    if realm not in directory.realms:
        raise Failed(f"auth domain '{realm}' does not exist")


def _known_groups(directory: Directory, names: str | None) -> list[UserGroup]:
    for group in split_list(names or ""):
        if group not in directory.groups:
            raise Failed(f"no such group '{group}'")
    return [directory.groups[group] for group in split_list(names or "")]
