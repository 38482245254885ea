from django.urls import re_path

from leases import views

urlpatterns = [re_path(r"^services/status/?$", views.status, name="services-status")]
