"""The ballot: a page with two choices. A vote goes into the queue, not into the database.

In: HTTP, and where the queue is (QUEUE_HOST). Out: each vote as JSON at the end of the list `votes`. A
cookie says who votes: who votes again takes back the first vote.
"""

import html
import http.cookies
import json
import os
import re
import secrets
import socket
import urllib.parse

import redis

import web

CHOICES = {"a": os.environ.get("OPTION_A", "Cats"), "b": os.environ.get("OPTION_B", "Dogs")}
# Threads share its connections.
QUEUE = redis.Redis(
    os.environ.get("QUEUE_HOST", "queue"), socket_timeout=2, socket_connect_timeout=2
)

STYLE = """
button { display: block; width: 80%; max-width: 24em; margin: 1em auto; padding: 1.2em; border: 0;
  border-radius: .4em; font-size: 1.6em; color: #fff; cursor: pointer }
"""


class Ballot(web.Request):
    def get(self):
        if self.path == "/":
            self.show(200, self.voter())
        else:
            super().get()

    def post(self, form):
        voter = self.voter()
        choice = urllib.parse.parse_qs(form.decode(errors="replace")).get("vote", [""])[0]
        if choice not in CHOICES:
            return self.answer(400, "text/plain", b"there is no such choice\n")
        try:
            QUEUE.rpush("votes", json.dumps({"voter": voter, "choice": choice}))
        except redis.RedisError as error:
            print("queue:", error)
            return self.answer(503, "text/plain", b"the queue does not answer; try again\n")
        print(f"{voter} votes {choice}")
        return self.show(200, voter, choice)

    def voter(self):
        """Who votes: what the cookie says, or somebody new."""
        cookies = http.cookies.SimpleCookie()
        try:
            cookies.load(self.headers.get("Cookie", ""))
        except http.cookies.CookieError:
            pass
        known = cookies["voter"].value if "voter" in cookies else ""
        return known if re.fullmatch("[0-9a-f]{16}", known) else secrets.token_hex(8)

    def show(self, status, voter, choice=None):
        buttons = "".join(
            f"<button name=vote value={key} class={key}>{html.escape(name)}"
            f"{' &#10003;' if key == choice else ''}</button>"
            for key, name in CHOICES.items()
        )
        title = html.escape(" or ".join(CHOICES.values()) + "?")
        body = (
            f"<h1>{title}</h1><form method=post>{buttons}</form>"
            f"<p>You can change your vote.<p>Answered by {html.escape(socket.gethostname())}"
        )
        cookie = ("Set-Cookie", f"voter={voter}; Path=/; HttpOnly; SameSite=Lax")
        self.answer(status, "text/html", web.page(title, STYLE, body), [cookie])


if __name__ == "__main__":
    web.serve(Ballot)
