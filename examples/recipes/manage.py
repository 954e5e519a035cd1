"""Django: ``python manage.py send_invoices`` on as many machines as you like."""

import sys

from django.conf import settings
from django.core.management import execute_from_command_line

settings.configure(INSTALLED_APPS=['billing'])
execute_from_command_line(sys.argv)
