# What becomes of the original flow log objects in S3, which are the archive of all raw documents: after some weeks they
# move to a cheaper class that is still read at once, so that `flowlogs backfill` can bring any range back.
#
# A bucket has one lifecycle configuration, and this resource owns all of it: rules that were made elsewhere go. If the
# bucket has rules already, copy the `rule` block to where they are instead.

terraform {
  required_version = ">= 1.3"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 4.0"
    }
  }
}

variable "bucket" {
  description = "Name of the bucket that AWS delivers the flow logs to."
  type        = string
}

variable "prefix" {
  description = "Only objects below this prefix move or expire. Keep dead letters and snapshots elsewhere."
  type        = string
  default     = "AWSLogs/"
}

variable "transition_after_days" {
  description = "Days after which an object moves. Longer than raw documents are kept in Elasticsearch: younger objects are read again the most."
  type        = number
  default     = 90

  validation {
    condition     = var.transition_after_days >= 1
    error_message = "Objects cannot move before they are a day old: use 1 or more."
  }
}

variable "storage_class" {
  description = "Where they move to: a class whose objects are read at once, since a backfill does not restore any."
  type        = string
  default     = "GLACIER_IR"

  validation {
    condition     = contains(["GLACIER_IR", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING"], var.storage_class)
    error_message = "Use GLACIER_IR, STANDARD_IA, ONEZONE_IA or INTELLIGENT_TIERING: objects of GLACIER and DEEP_ARCHIVE have to be restored before a backfill can read them."
  }
}

variable "expire_after_days" {
  description = "Days after which objects are deleted, and with them the last copy of their records; 0 = never."
  type        = number
  default     = 0

  validation {
    condition     = var.expire_after_days >= 0
    error_message = "Use 0 (never) or a number of days."
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "flow_logs" {
  bucket = var.bucket

  rule {
    id     = "flow-logs"
    status = "Enabled"

    filter {
      prefix = var.prefix
    }

    # Objects below 128 KiB stay where they are (S3's own default): moving them costs more than it saves.
    transition {
      days          = var.transition_after_days
      storage_class = var.storage_class
    }

    dynamic "expiration" {
      for_each = var.expire_after_days > 0 ? [var.expire_after_days] : []
      content {
        days = expiration.value
      }
    }
  }
}
