"""The result: how many have voted for what, as a page that follows and as JSON at `/api`.

In: HTTP, and the table `votes` of the database (DB_HOST). Out: counts, all that there are.
"""

import html
import json
import os

import psycopg2
import psycopg2.errors

import database
import web

CHOICES = {"a": os.environ.get("OPTION_A", "Cats"), "b": os.environ.get("OPTION_B", "Dogs")}

STYLE = """
main { display: flex; width: 80%; max-width: 40em; margin: auto; color: #fff }
main div { flex: 1; padding: 2em 0; min-width: 5em; transition: flex .5s }
b { display: block; font-size: 2.4em }
"""

SCRIPT = """
async function follow() {
  try {
    const { votes, total } = await (await fetch("/api")).json();
    for (const [name, count] of Object.entries(votes)) {
      const box = document.getElementById(name);
      box.querySelector("b").textContent = count;
      box.style.flex = total ? count / total + 0.01 : 1;
    }
    document.querySelector("p").textContent = total + " votes";
  } catch { }
  setTimeout(follow, 1000);
}
follow();
"""


def count():
    """How many votes each choice has."""
    connection = database.connect()
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute("SELECT choice, count(*) FROM votes GROUP BY choice")
            found = dict(cursor.fetchall())
    except psycopg2.errors.UndefinedTable:
        # The worker makes it before it takes the first vote.
        found = {}
    finally:
        connection.close()
    return {name: found.get(key, 0) for key, name in CHOICES.items()}


class Result(web.Request):
    def get(self):
        if self.path not in ("/", "/api"):
            return super().get()
        try:
            votes = count()
        except (psycopg2.Error, OSError) as error:
            print("database:", str(error).strip())
            return self.answer(503, "text/plain", b"the database does not answer\n")
        total = sum(votes.values())
        if self.path == "/api":
            body = json.dumps({"votes": votes, "total": total}) + "\n"
            return self.answer(200, "application/json", body.encode())
        return self.answer(200, "text/html", self.shown(votes, total))

    def shown(self, votes, total):
        boxes = "".join(
            f'<div id="{html.escape(name)}" class={key}>{html.escape(name)}<b>{votes[name]}</b></div>'
            for key, name in CHOICES.items()
        )
        title = html.escape(" or ".join(CHOICES.values()))
        body = f"<h1>{title}</h1><main>{boxes}</main><p>{total} votes</p><script>{SCRIPT}</script>"
        return web.page(title, STYLE, body)


if __name__ == "__main__":
    web.serve(Result)
