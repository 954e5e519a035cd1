"""Flask: ``gunicorn --config gunicorn_conf.py --workers 4 flask_app:app``."""

from flask import Flask, current_app

app = Flask(__name__)


@app.get('/ready')
def ready():
    return '', 200 if current_app.config['job'].am_i_healthy() else 503
