import django.db.models.deletion
from django.db import migrations, models

TRIGGERS = [
    ("labels", "enough new labels"),
    ("schedule", "the schedule"),
    ("drift", "suggestions are accepted less than before"),
    ("schema", "the classes changed"),
    ("person", "a person"),
]


class Migration(migrations.Migration):
    dependencies = [("flywheel", "0001_initial")]

    operations = [
        migrations.AddField(
            model_name="round",
            name="trigger",
            field=models.CharField(blank=True, choices=TRIGGERS, default="", max_length=20),
        ),
        migrations.AddField(
            model_name="round",
            name="control_run",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="controlled_rounds",
                to="flywheel.trainingrun",
            ),
        ),
        migrations.AddConstraint(
            model_name="round",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("trigger__in", ["", "labels", "schedule", "drift", "schema", "person"])
                ),
                name="round_trigger_known",
            ),
        ),
    ]
