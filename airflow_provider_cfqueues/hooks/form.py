"""The connection form of Airflow 2.11 to 3.1, made from the table in ``provider_info`` that later versions read."""

from __future__ import annotations

from typing import Any

from airflow_provider_cfqueues.provider_info import get_provider_info


def connection_form_widgets() -> dict[str, Any]:
    """Return the extra fields of the form."""
    from flask_appbuilder.fieldwidgets import BS3PasswordFieldWidget, BS3TextFieldWidget
    from flask_babel import lazy_gettext
    from wtforms import PasswordField, StringField

    def widget(field: dict[str, Any]) -> Any:
        secret = field["schema"].get("format") == "password"
        return (PasswordField if secret else StringField)(
            lazy_gettext(field["label"]),
            description=field["description"],
            widget=BS3PasswordFieldWidget() if secret else BS3TextFieldWidget(),
        )

    return {name: widget(field) for name, field in _connection_type()["conn-fields"].items()}


def ui_field_behaviour() -> dict[str, Any]:
    """Return labels and placeholders of the form."""
    behaviour = _connection_type()["ui-field-behaviour"]
    return {key.replace("-", "_"): value for key, value in behaviour.items()}


def _connection_type() -> dict[str, Any]:
    connection_type: dict[str, Any] = get_provider_info()["connection-types"][0]
    return connection_type
