from django.apps import AppConfig


class LeasesConfig(AppConfig):
    name = "leases"

    def ready(self) -> None:
        from leases import checks  # noqa: F401, PLC0415 - registers itself
