# tests/test_api.py
import pytest
from daas.api import app

@pytest.fixture
def client():
    app.config['TESTING'] = True
    with app.test_client() as client:
        yield client

def test_home(client):
    rv = client.get('/')
    assert rv.status_code == 200
    assert b'Orchestrateur DaaS' in rv.data

def test_list_sessions(client):
    rv = client.get('/api/sessions')
    assert rv.status_code == 200
    data = rv.get_json()
    assert isinstance(data, dict)

def test_create_session_missing_username(client):
    rv = client.post('/api/session/create',
                     json={})
    assert rv.status_code == 400
