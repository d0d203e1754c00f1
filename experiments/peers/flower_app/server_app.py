"""What the SuperLink runs: all rounds. Leaves what was measured in the file that the app's config names."""

import json
import os

from flower_server import Session
from flwr.serverapp import ServerApp

app = ServerApp()


@app.main()
def main(grid, context):
    config, failed = context.run_config, None
    session = Session(config["sites"], config["elements"], config["lost"], config["rounds"], config["killed"])
    try:
        session.run(grid, context)
    except Exception as error:  # whatever it is, it belongs into the table
        failed = f"{type(error).__name__}: {error}"
        raise
    finally:
        report = session.report("deployment", config["vector"])
        if failed:
            report["failed"] = failed
        with open(config["report"] + ".new", "w", encoding="utf-8") as file:
            json.dump(report, file)
        os.replace(config["report"] + ".new", config["report"])
