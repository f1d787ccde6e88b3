import pytest

from airflow_provider_cfqueues.client.settings import DEFAULT_BASE_URL, parse_settings
from airflow_provider_cfqueues.exceptions import CloudflareQueuesError, ConfigurationError

SECRET = "s3cret-token-0123456789"


def parse(**fields):
    given = {"host": None, "login": None, "password": SECRET, "extra": {"account_id": "acc-1_A"}, **fields}
    return parse_settings("my_conn", **given)


def test_an_api_token_becomes_a_bearer_header():
    settings = parse()
    assert settings.credentials.headers() == {"Authorization": f"Bearer {SECRET}"}
    assert settings.base_url == DEFAULT_BASE_URL
    assert settings.url("/accounts/{account_id}/queues") == f"{DEFAULT_BASE_URL}/accounts/acc-1_A/queues"


def test_an_email_and_a_global_api_key_become_the_legacy_headers():
    settings = parse(login="me@example.com", password="", extra={"account_id": "a", "api_key": SECRET})
    assert settings.credentials.headers() == {"X-Auth-Email": "me@example.com", "X-Auth-Key": SECRET}


@pytest.mark.parametrize(
    "host",
    [
        "https://gateway.example.com/cf/client/v4/",
        "http://127.0.0.1:8787/client/v4",
        "http://localhost:1",
        "http://[::1]:1",
    ],
)
def test_a_base_url_is_https_or_on_this_machine(host):
    assert parse(host=host).base_url == host.rstrip("/")


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"password": None}, "'password'"),
        ({"login": "me@example.com"}, r"both 'password' .* and 'login':"),
        ({"extra": {"account_id": "a", "api_key": SECRET}}, r"both 'password' .* and 'api_key':"),
        ({"password": None, "login": "me@example.com"}, "'api_key'.*missing"),
        ({"password": None, "extra": {"account_id": "a", "api_key": SECRET}}, "'login'.*missing"),
        ({"extra": {}}, "'account_id'.*missing"),
        ({"extra": [SECRET]}, "must be a JSON object, not list"),
        ({"extra": {"account_id": "a/b"}}, "'account_id'"),
        ({"extra": {"account_id": "x" * 33}}, "'account_id'"),
        ({"extra": {"account_id": SECRET * 3}}, "'account_id'"),
        ({"extra": {"account_id": "a", "acount": SECRET}}, "unknown keys.*acount"),
        ({"password": SECRET + "\n"}, "'password'.*white space"),
        ({"password": "Bearer " + SECRET}, "'password'.*without 'Bearer'"),
        ({"password": SECRET + "\u2026"}, "'password'.*plain text"),
        ({"password": None, "login": "a", "extra": {"account_id": "a", "api_key": SECRET + " "}}, "'api_key'"),
        ({"password": None, "login": "a", "extra": {"account_id": "a", "api_key": 5}}, "'api_key'"),
        ({"host": "http://api.cloudflare.com/client/v4"}, "'host'.*https"),
        ({"host": "api.cloudflare.com"}, "'host'.*https"),
        ({"host": f"https://user:{SECRET}@api.cloudflare.com"}, "'host'.*plain URL"),
        ({"host": f"https://api.cloudflare.com?token={SECRET}"}, "'host'.*plain URL"),
        ({"host": "https://"}, "'host'"),
        ({"host": "https://a..b"}, "'host'"),
        ({"host": f"https://{'x' * 64}.com"}, "'host'"),
        ({"host": "https://☃.example.com"}, "'host'"),
        ({"host": "https://api.cloudflare.com/client v4"}, "'host'"),
        ({"host": "https://[::1"}, "'host'.*not a URL"),
        ({"host": "http://127.0.0.1.example.com"}, "'host'.*https"),
    ],
)
def test_a_field_that_is_wrong_is_named_with_connection_and_remedy_but_never_the_secret(fields, says):
    with pytest.raises(ConfigurationError, match=says) as caught:
        parse(**fields)
    assert "'my_conn'" in str(caught.value)
    assert "Admin → Connections" in str(caught.value)
    assert SECRET not in repr(caught.value) + str(caught.value)
    assert isinstance(caught.value, (CloudflareQueuesError, ValueError))


def test_the_second_names_that_airflow_2_gives_the_fields_of_a_form_are_no_unknown_keys():
    fields = {"account_id": "a", "api_key": SECRET}
    sent = fields | {f"extra__cloudflare__{name}": value for name, value in fields.items()}
    assert parse(login="me@example.com", password="", extra=sent) == parse(
        login="me@example.com", password="", extra=fields
    )


def test_a_settings_repr_hides_the_secret():
    key = parse(login="me@example.com", password="", extra={"account_id": "a", "api_key": SECRET})
    assert SECRET not in repr(parse()) + repr(key)
